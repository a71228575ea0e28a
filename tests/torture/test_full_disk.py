"""A disk that refuses writes: buying stops with the journal, nothing partial gets a name, and room mends everything.

Where the machine lets us mount one, a small file system in memory is filled; anywhere else, and for the narrow moments,
the system's limit on the size of a file is lowered under the running process: writes beyond it fail as on a full disk.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import define, field

from kling_async.simulator import SimulatorSettings
from tests.cli.harness import KEY, Ended, LoopThread, Process, clean_environment, png, until
from tests.torture.audit import Books, Journal, hold_at_any_time, hold_at_the_end, read_books, read_journal
from tests.torture.scale import THOROUGH, some
from tests.torture.scenario import ENVIRONMENT
from tests.torture.witness import Trap, Witness

MOUNT: Final = shutil.which("mount")
UMOUNT: Final = shutil.which("umount")
ROWS: Final = 12
LARGE: Final = 8_000_000
"""Bytes of a video that does not fit where the journal, whose log grows to about 4 MB, does."""


@define
class Job:
    """A folder, a service, and the program between them."""

    folder: Path
    out: Path
    journal: Path
    loop: LoopThread
    service: Witness
    flags: list[str] = field(factory=list)
    processes: list[Process] = field(factory=list)

    def start(self) -> Process:
        """Start the program."""
        command = [sys.executable, "-m", "kling_async", "run", "shots.jsonl", "--out", str(self.out), "--json", "--yes"]
        environment = {"AIMLAPI_BASE_URL": self.service.base_url, "AIMLAPI_API_KEY": KEY, **ENVIRONMENT}
        process = Process([*command, *self.flags], cwd=self.folder, env={**clean_environment(), **environment})
        self.processes.append(process)
        return process

    def start_struck(self, sight: str, times: int, blow: Callable[[Process], None]) -> tuple[Process, list[int]]:
        """Start the program; do something when the service has seen something; note how many had been bought then."""
        process = self.start()
        bought: list[int] = []

        def strike() -> None:
            blow(process)
            bought.append(len(self.service.book.purchases))

        self.loop.call(lambda: self.service.set_trap(Trap(sight, times, 0.0, strike)))
        return process, bought

    def hold(self) -> tuple[Books, Journal]:
        """Hold the folder against the account book, as it stands now."""
        books, journal = read_books(self.service, self.loop), read_journal(self.journal)
        assert journal is not None
        hold_at_any_time(books, journal, self.out)
        return books, journal

    def temporary(self) -> list[Path]:
        """Return what lies there under a temporary name."""
        return [path for path in self.out.rglob("*") if path.name.endswith(".part")]

    def make_all(self) -> Books:
        """Run to the end with room enough: every row gets its video, and none is bought again."""
        return self.end(self.start().finish())

    def end(self, ended: Ended) -> Books:
        """Hold everything against the account book when every row has its video."""
        assert ended.code == 0, ended.err
        books, journal = self.hold()
        hold_at_the_end(books, journal, self.out, ended.document, ended.code)
        assert len(books.purchases) == ROWS
        return books


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB, in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    if not _mount("size=16m", place):
        pytest.skip("this machine lets nobody mount a file system here")
    yield place
    subprocess.run([UMOUNT or "", "--lazy", str(place)], check=True)


def _mount(options: str, place: Path) -> bool:
    if MOUNT is None or UMOUNT is None:
        return False
    command = [MOUNT, "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def fill(disk: Path, *, spare: int = 0) -> Path:
    """Take all the room of a disk but so many bytes; return the file that has it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        with suppress(OSError):  # what runs there takes room at the same time: until there is none
            while True:
                file.write(bytes(4096))
        file.truncate(file.tell() - spare)
    return ballast


@pytest.fixture
def open_job(tmp_path: Path, loop: LoopThread) -> Iterator[Callable[..., Job]]:
    """Opens a job of some rows whose videos take so many bytes."""
    opened: list[Job] = []

    def open_one(clip_bytes: int = 0, *, out: Path | None = None, journal: Path | None = None, **more: Any) -> Job:
        (tmp_path / "cat.png").write_bytes(png())
        rows = [{"key": f"row{i}", "image": "cat.png", "prompt": f"prompt {i}"} for i in range(ROWS)]
        (tmp_path / "shots.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
        given = {"clips": "template", "clip_bytes": clip_bytes, "durations": 0.3, "limit": None, **more}
        service = loop.do(Witness(SimulatorSettings(keys=(KEY,), **given)).__aenter__())
        out = out or tmp_path / "out"
        job = Job(tmp_path, out, journal or out / ".kling" / "journal.db", loop, service)
        opened.append(job)
        return job

    yield open_one
    for job in opened:
        for process in job.processes:
            process.close()
        loop.do(job.service.__aexit__(None, None, None))


def limit_files(process: Process, size: int) -> None:
    """Let no file of a running process grow beyond so many bytes; -1: let them grow again."""
    _, most = resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY if size < 0 else size, most))


@pytest.mark.parametrize("sight", ["submit accepted", "poll completed", "download begun"])
@pytest.mark.parametrize("times", some([1, 2, 4]))
def test_a_journal_that_cannot_grow_stops_the_buying(open_job: Callable[..., Job], sight: str, times: int) -> None:
    """No POST leaves without a durable intent; the end says what is wrong; with room, every row gets its video."""
    job = open_job()
    job.flags = ["--max-in-flight", "4"]

    process, bought = job.start_struck(sight, times, lambda process: limit_files(process, 1))
    ended = process.finish()
    assert ended.code == 2, (ended.code, ended.err)
    assert "journal" in ended.err
    assert "Traceback" not in ended.err
    books, _ = job.hold()
    assert len(books.purchases) <= bought[0] + 4, "went on buying without a journal"
    job.make_all()


@pytest.mark.parametrize("size", some([0, 1_000, 30_000, 60_000, 90_000, 120_000, 150_000]))
def test_whatever_room_there_is_at_first_nothing_is_lost(open_job: Callable[..., Job], size: int) -> None:
    """A run that finds no room says so, wherever it ends; what it bought is known."""
    job = open_job()
    process = job.start()
    limit_files(process, size)
    ended = process.finish()
    assert ended.code in {2, 3}, (ended.code, ended.err)
    assert "Traceback" not in ended.err
    assert "kling-async: " in ended.err
    books, journal = read_books(job.service, job.loop), read_journal(job.journal)
    hold_at_any_time(books, journal, job.out)
    job.make_all()


def test_videos_that_find_no_room_are_fetched_later(open_job: Callable[..., Job]) -> None:
    """What is made stays made: no partial file under any name, the end says 3, and room brings every video."""
    job = open_job(LARGE)
    process = job.start()
    limit_files(process, LARGE - 1_500_000)
    ended = process.finish()
    assert ended.code == 3, (ended.code, ended.err)
    assert "Traceback" not in ended.err
    books, journal = job.hold()
    assert not list((job.out / "videos").rglob("*.mp4"))
    assert not job.temporary()
    assert journal.stages == {"rendered": ROWS}
    assert len(job.make_all().purchases) == len(books.purchases)


@pytest.mark.skipif(not THOROUGH, reason="it waits for a quarter of a minute: `make torture` has the time")
def test_a_full_disk_is_waited_for(open_job: Callable[..., Job], small_disk: Path) -> None:
    """Videos that find no room wait for it; when there is some, the same run brings them all."""
    job = open_job(3_000_000, out=small_disk / "out", journal=small_disk.parent / "journal.db")
    job.flags = ["--journal", str(job.journal)]
    process = job.start()
    process.says("downloads go on when there is room")
    assert process.popen.poll() is None
    books, journal = job.hold()
    assert 0 < journal.stages["done"] < ROWS
    assert _mount("remount,size=64m", small_disk)
    assert job.end(process.finish(timeout=60)).purchases.keys() == books.purchases.keys()


@pytest.mark.parametrize("spare", some([0, 16_384, 131_072]))
def test_a_journal_on_a_full_disk_stops_the_buying(open_job: Callable[..., Job], small_disk: Path, spare: int) -> None:
    """As soon as no intent can be kept, none is bought; the end says what is wrong; room mends it."""
    job = open_job(journal=small_disk / "journal.db")
    job.flags = ["--journal", str(job.journal), "--max-in-flight", "4"]
    process = job.start()
    until(lambda: job.loop.call(lambda: len(job.service.book.purchases)) >= 2, "two are bought")
    ballast = fill(small_disk, spare=spare)
    ended = process.finish()
    assert ended.code == 2, (ended.code, ended.err)
    assert "journal" in ended.err
    assert "Traceback" not in ended.err
    books, journal = job.hold()
    assert len(books.purchases) < ROWS
    assert journal.stages["done"] < ROWS
    ballast.unlink()
    job.make_all()
