"""What is published works where nothing else is installed. Slow: about half a minute, and it asks the package index."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from attrs import frozen

pytestmark = pytest.mark.xdist_group("wheel")  # one wheel is built for all

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120.0
"""Seconds that one step may take: an index may be slow."""


def done(command: Sequence[str | Path], **options: object) -> str:
    """Run a command to its good end, away from this machine's settings; return its stdout."""
    foreign = ("AIML", "KLING_ASYNC_", "PYTHON", "VIRTUAL_ENV", "COV_CORE_", "COVERAGE_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    ended = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=environment,
        stdin=subprocess.DEVNULL,
        **options,  # type: ignore[call-overload]  # the working directory
    )
    assert ended.returncode == 0, f"{command} ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return str(ended.stdout)


def find_uv() -> str | None:
    """Return uv where there is one: it takes a tenth of the time."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


@frozen
class Installed:
    """The wheel, and a virtual environment with nothing in it but the wheel and what it asks for."""

    wheel: Path
    programs: Path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel from the tree, and install it without extras, in the versions that the tests have seen."""
    folder = tmp_path_factory.mktemp("wheel")
    uv, venv = find_uv(), folder / "venv"
    pinned: list[str | Path] = ["--constraint", ROOT / "requirements/dev.txt"]
    if uv is not None:
        done([uv, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT])
        done([uv, "venv", "--quiet", "--python", sys.executable, venv])
        install: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", venv / "bin/python"]
    else:
        done([sys.executable, "-m", "venv", venv])
        pip: list[str | Path] = [venv / "bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
        done([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT])
        install = [*pip, "install"]
    (wheel,) = folder.glob("*.whl")
    done([*install, *pinned, wheel])
    return Installed(wheel, venv / "bin")


def test_the_wheel_holds_the_package_and_nothing_else(installed: Installed) -> None:
    """Each module, the SQL, its migrations, the packaged clips and `py.typed`; neither tests nor what was compiled."""
    package = ROOT / "kling_async"
    there = {path.relative_to(ROOT).as_posix() for path in package.rglob("*") if path.is_file()}
    whole = {name for name in there if "__pycache__" not in name}
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        told = wheel.read(metadata).decode()
    assert names == whole
    for ending in ("/py.typed", "/adapters/sqlite.sql", "/adapters/migrations/0001_rows.sql", ".mp4"):
        assert any(name.endswith(ending) for name in names), ending
    assert "Provides-Extra: video" in told
    assert "License-File: LICENSE" in told
    assert "# kling_async" in told, "the README is its description"


def test_the_example_runs_where_nothing_else_is_installed(installed: Installed, tmp_path: Path) -> None:
    """In an empty environment, without extras, `kling-async run --simulate` makes every video of the example."""
    python, program = installed.programs / "python", installed.programs / "kling-async"
    imported = "import importlib.util as u, sys; sys.exit(any(map(u.find_spec, ('av', 'PIL', 'rich', 'pytest'))))"
    done([python, "-c", imported])
    where = done([python, "-c", "import kling_async; print(kling_async.__file__)"], cwd=tmp_path)
    assert not Path(where.strip()).is_relative_to(ROOT / "kling_async")
    told = done([program, "run", ROOT / "examples/manifest.csv", "--out", "out", "--simulate", "--json"], cwd=tmp_path)
    summary = json.loads(told)
    assert (summary["rows"], summary["done"]) == (8, 8)
    lines = [json.loads(line) for line in (tmp_path / "out/metadata.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == 8
    for line in lines:
        assert (tmp_path / "out" / line["file_name"]).stat().st_size == line["size"]
