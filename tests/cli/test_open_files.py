"""A system that lets few files be open: a run keeps within them, and no row hears of it."""

from __future__ import annotations

import sys

import pytest

from tests.cli.conftest import OpenWorld

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the limit is another one there")

ROWS = 30


def _run_with(open_world: OpenWorld, limit: int) -> None:
    world = open_world(latency=0.2, clip_bytes=400_000)
    world.manifest(ROWS)
    shell = f'ulimit -n {limit} && exec "$0" -m kling_async "$@"'
    arguments = ["run", "shots.jsonl", "--out", "out", "--json", "--yes", "--max-in-flight", str(ROWS)]
    ended = world.begin(["/bin/sh", "-c", shell, sys.executable, *arguments], env={}).finish()
    assert ended.code == 0, ended.err
    assert ended.document["done"] == ended.document["submits"] == ROWS
    assert "open files" not in ended.err
    assert len(world.videos()) == ROWS


def test_a_large_job_where_few_files_may_be_open(open_world: OpenWorld) -> None:
    """Many rows at once, each with its image: all end DONE, none is tried in vain, and nobody is told of files."""
    _run_with(open_world, 64)


def test_a_large_job_where_hardly_any_file_may_be_open(open_world: OpenWorld) -> None:
    """One at a time of each, and it gets there."""
    _run_with(open_world, 40)


def test_what_may_be_raised_is_raised(open_world: OpenWorld) -> None:
    """The system's soft limit is small by custom; where the hard one permits more, the program takes it."""
    world = open_world()
    world.manifest(2)
    shell = 'ulimit -Sn 40 && exec "$0" -c "$1"'
    program = (
        "import resource, sys; from kling_async.cli.app import main; sys.argv[1:] = ['run', 'shots.jsonl', '--out', "
        "'out', '--yes', '--quiet']\n"
        "try: main()\n"
        "finally: print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    ended = world.begin(["/bin/sh", "-c", shell, sys.executable, program], env={}).finish()
    assert int(ended.out.split()[-1]) > 40, ended.err
