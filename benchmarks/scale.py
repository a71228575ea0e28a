"""How a job grows with its rows: memory, what a row costs before it is bought, how soon a half-done job goes on.

    python -m benchmarks.scale

Each size goes through these parts, each in a process of its own, on one folder:

- *enrol*: the manifest, checked and taken into the journal, as `run` does it before it asks for money, by the same
  functions. CPU a row of the two together, images apart (they are URLs).
- *run*: the first half bought, watched and fetched, up to `BENCH_WHOLE` rows of it.
- *resume*: the same job, all of its first half done. Seconds from the manifest's digest to the first POST.
- *status*: `kling-async status`, the whole process.

The journal, the videos' folder and the results are the real ones. The service is a stand-in behind the door `Transport`
which has every video ready at once: the simulator's own memory and CPU would be most of what is measured. Half a job is
made by statements on its journal, with an empty file for each video; its metadata are written before the time is taken.

Targets: the peak memory of each part within a fifth of that at the smallest size; `MOST_ROW` of CPU for text and
enrolment; a half-done million goes on in `MOST_RESUME`, and its status takes `MOST_STATUS`. `BENCH_SIZES=10000,1000000`
sets the sizes, `BENCH_DIR` the disk. It must never run two parts at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from kling_async.flow.batch import Batch
    from kling_async.types.exchange import HttpCall, HttpReply

SIZES: Final = tuple(int(size) for size in os.environ.get("BENCH_SIZES", "10000,100000").split(","))
WHOLE: Final = int(os.environ.get("BENCH_WHOLE", "20000"))
"""Rows that are bought at the most."""
MOST_GROWTH: Final = 1.2
"""Peak memory, as a multiple of that of the smallest size: the target."""
MOST_ROW: Final = 25.0
"""Microseconds of CPU a row for text and enrolment: the target."""
MOST_RESUME: Final = 10.0
"""Seconds until a half-done job goes on: the target, at a million rows."""
MOST_STATUS: Final = 1.0
"""Seconds of `status`: the target, at a million rows."""
PARTS: Final = ("enrol", "run", "resume", "status")

Figures = dict[str, float]


def box(kind: bytes, *parts: bytes) -> bytes:
    """Return a box of an MP4."""
    payload = b"".join(parts)
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def clip() -> bytes:
    """Return a whole MP4 of half a kilobyte."""
    mvhd = box(b"mvhd", b"\1\0\0\0", struct.pack(">QQIQ", 0, 0, 1000, 5042), bytes(80))
    tkhd = box(b"tkhd", b"\1\0\0\7", bytes(84), struct.pack(">II", 640 << 16, 360 << 16))
    stsd = box(b"stsd", struct.pack(">II", 0, 1), box(b"avc1", bytes(78)))
    media = box(b"mdia", box(b"hdlr", bytes(8), b"vide", bytes(13)), box(b"minf", box(b"stbl", stsd)))
    return b"".join(
        [box(b"ftyp", b"isom\0\0\2\0isommp41"), box(b"moov", mvhd, box(b"trak", tkhd, media)), box(b"mdat", bytes(64))]
    )


class ReadyService:
    """Stands in for the service: what is bought is finished at once."""

    def __init__(self) -> None:
        self.first_post: float | None = None
        """When the first POST came, by `time.perf_counter`."""
        self.posted = asyncio.Event()
        """Is set then."""
        self._sold = 0
        self._clip = clip()

    async def send(self, call: HttpCall) -> HttpReply:
        """Answer a call."""
        from kling_async.types.exchange import HttpReply  # noqa: PLC0415 - the parent stays small

        if call.method == "POST":
            if self.first_post is None:
                self.first_post = time.perf_counter()
                self.posted.set()
            self._sold += 1
            name = next(value for name, value in call.headers if name.lower() == "x-client-request-id")
            document: object = {"id": f"generation-{name}", "status": "queued"}
            return HttpReply(201, {"x-client-request-id": name}, json.dumps(document).encode())
        query = dict(call.query)
        if "generation_id" not in query:
            return HttpReply(404, {}, b'{"message": "not here"}')
        document = {
            "id": query["generation_id"],
            "status": "completed",
            "video": {"url": f"https://files.example/{query['generation_id']}.mp4"},
            "meta": {"usage": {"credits_used": 520_000}},
        }
        return HttpReply(200, {}, json.dumps(document).encode())

    @asynccontextmanager
    async def fetch(self, _url: str, *, headers: Mapping[str, str], stall_after: float) -> AsyncIterator[Any]:
        """Open a video."""
        from kling_async.testing import ScriptedDownload  # noqa: PLC0415

        assert stall_after > 0, headers
        yield ScriptedDownload(200, {"content-length": str(len(self._clip))}, [self._clip])

    async def aclose(self) -> None:
        """Nothing is to be closed."""


def write_manifest(path: Path, rows: int) -> None:
    """Write a manifest of so many rows."""
    with path.open("w") as file:
        file.write("key,image,prompt,duration,shot\n")
        file.writelines(
            f"row-{row:07},https://images.example/cats/{row % 997:05}.png,"
            f'"Cat number {row} puts on glasses with her hands, slowly",5,s{row % 50}\n'
            for row in range(rows)
        )


def peak() -> float:
    """Return the most memory that this process had, in MB."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def batch_in(folder: Path, service: ReadyService) -> Batch:
    """Return the folder's batch with the service that is ready at once."""
    from kling_async.assembly import open_batch  # noqa: PLC0415
    from kling_async.types.settings import Settings  # noqa: PLC0415

    fast = {"max_in_flight": 256, "poll_lag": 0.02, "poll_interval_min": 0.02, "poll_interval_max": 0.05, "price": 0.26}
    settings = Settings.of(api_key="key", base_url="https://service.example", poll_workers=64, **fast)
    return open_batch(folder / "out", settings=settings, transport=service)


async def enrol(folder: Path, rows: int) -> Figures:
    """Check the manifest and take it into the journal, as `run` does."""
    from kling_async.cli.run import enrol as take_in  # noqa: PLC0415 - all that `run` does, and no likeness of it
    from kling_async.manifests import Manifest  # noqa: PLC0415

    source = Manifest(folder / "shots.csv")
    began = time.process_time()
    mark, check = await source.mark(), await source.check()
    checked = time.process_time()
    assert mark is not None, "a file has a mark"
    assert (check.rows, check.error_count) == (rows, 0), check
    async with batch_in(folder, ReadyService()) as batch:
        opened = time.process_time()
        await batch.enrolment.expect(check.rows)
        enrolled = await take_in(batch, source, mark=mark, resubmit=False)
        ended = time.process_time()
    assert (enrolled.rows, enrolled.whole) == (rows, True), enrolled
    source.close()
    text, taking = (checked - began) / rows * 1e6, (ended - opened) / rows * 1e6
    return {"text_us": text, "enrol_us": taking, "row_us": text + taking}


async def run(folder: Path, rows: int) -> Figures:
    """Buy, watch and fetch rows."""
    from kling_async.flow.remaining import Remaining  # noqa: PLC0415

    cpu, wall, count = time.process_time(), time.perf_counter(), 0
    async with batch_in(folder, ReadyService()) as batch, batch.stream(Remaining()) as outcomes:
        async for outcome in outcomes:
            assert outcome.ok, outcome
            count += 1
            if count == min(rows // 2, WHOLE):
                break
    return {"row_us": (time.process_time() - cpu) / count * 1e6, "rows_s": count / (time.perf_counter() - wall)}


async def halve(folder: Path, rows: int) -> None:
    """Let half of the rows be done, and their metadata written."""
    from kling_async.adapters.files import LocalVideoStore  # noqa: PLC0415
    from kling_async.adapters.results import FolderResults  # noqa: PLC0415
    from kling_async.adapters.sqlite import SqliteJournal  # noqa: PLC0415
    from kling_async.flow.secretary import Secretary  # noqa: PLC0415

    place, videos = folder / "out" / ".kling" / "journal.db", folder / "out" / "videos"
    with contextlib.closing(sqlite3.connect(place, isolation_level=None)) as book:
        book.execute("BEGIN")
        book.execute(
            "UPDATE row SET stage = 'done', attempt = 1, done_order = seq + 9000000, credits = 520000, size = 500,"
            " sha256 = hex(randomblob(32)), content = hex(randomblob(32)), generation_id = hex(randomblob(16)),"
            " client_request_id = 'ka1.' || hex(randomblob(20)), sent_at = 1800000000.0, sent_with = '0123456789'"
            " WHERE seq <= ? AND stage <> 'done'",
            (rows // 2,),
        )
        book.execute("COMMIT")
        book.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for (name,) in book.execute("SELECT name FROM row WHERE stage = 'done'"):
            video = videos / name
            with contextlib.suppress(FileExistsError):
                video.parent.mkdir(parents=True, exist_ok=True)
            video.touch()
    book_again, store = SqliteJournal(place), LocalVideoStore(videos)
    await book_again.open()
    secretary = Secretary(book_again, FolderResults(folder / "out"), store)
    await secretary.open()
    await book_again.aclose()


async def _read(outcomes: AsyncIterator[object]) -> None:
    async for _ in outcomes:
        pass


async def resume(folder: Path, _rows: int) -> Figures:
    """Go on with a half-done job, up to its first POST, as `run` does."""
    from kling_async.flow.remaining import Remaining  # noqa: PLC0415
    from kling_async.journals import read_source  # noqa: PLC0415
    from kling_async.manifests import Manifest  # noqa: PLC0415

    cpu, wall = time.process_time(), time.perf_counter()
    source, service = Manifest(folder / "shots.csv"), ReadyService()
    assert await source.mark() == await read_source(folder / "out"), "the manifest is known as it stands"
    async with batch_in(folder, service) as batch:
        choice, tally = await batch.foresee(), await batch.tally()
        assert sum(choice.new.values()) == tally.planned, choice
        async with batch.stream(Remaining()) as outcomes, asyncio.TaskGroup() as group:
            # What was open when the first half ended comes first, and is taken: nothing goes on otherwise.
            reader = group.create_task(_read(outcomes))
            await service.posted.wait()
            used = time.process_time() - cpu
            reader.cancel()
    source.close()
    assert service.first_post is not None
    return {"seconds": service.first_post - wall, "cpu_s": used}


def status(folder: Path) -> Figures:
    """Ask for the status, several times."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        command = [sys.executable, "-m", "kling_async", "status", str(folder / "out"), "--json"]
        subprocess.run(command, check=True, stdout=subprocess.PIPE)
        times.append(time.perf_counter() - began)
    return {"seconds": min(times)}


def play(part: str, rows: int, folder: Path) -> Figures:
    """Do one part in this process."""
    if part == "halve":
        asyncio.run(halve(folder, rows))
        return {}
    figures = asyncio.run({"enrol": enrol, "run": run, "resume": resume}[part](folder, rows))
    return {**figures, "peak_mb": peak()}


def measure(rows: int, folder: Path) -> dict[str, Figures]:
    """Do all parts of one size, each in a process of its own."""
    write_manifest(folder / "shots.csv", rows)
    found: dict[str, Figures] = {}
    for part in ("enrol", "run", "halve", "resume"):
        command = [sys.executable, "-m", "benchmarks.scale", part, str(rows), str(folder)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[part] = json.loads(done.stdout)
    return found | {"status": status(folder)}


def report(found: Mapping[int, Mapping[str, Figures]]) -> int:
    """Print the figures and the verdicts; return 1 if a target is missed."""
    for rows, parts in found.items():
        for part in PARTS:
            told = ", ".join(f"{name} {value:,.2f}" for name, value in parts[part].items())
            print(f"{rows:>9,} rows  {part:7} {told}")
    least, most = min(found), max(found)
    verdicts = []
    for part in ("enrol", "run", "resume"):
        growth = found[most][part]["peak_mb"] / found[least][part]["peak_mb"]
        told = f"peak memory of {part} at {most:,} rows: {growth:.2f} x that at {least:,}, at most {MOST_GROWTH:g}"
        verdicts.append((growth <= MOST_GROWTH, told))
    row, again, seen = found[most]["enrol"]["row_us"], found[most]["resume"], found[most]["status"]["seconds"]
    verdicts += [
        (row <= MOST_ROW, f"text and enrolment: {row:.1f} us of CPU a row, at most {MOST_ROW:g}"),
        (
            again["seconds"] <= MOST_RESUME,
            f"resume of a half-done job: {again['seconds']:.1f} s, at most {MOST_RESUME:g}",
        ),
        (seen <= MOST_STATUS, f"status: {seen:.2f} s, at most {MOST_STATUS:g}"),
    ]
    for reached, line in verdicts:
        print(f"{'reached' if reached else 'MISSED '}  {line}")
    return 0 if all(reached for reached, _ in verdicts) else 1


def main() -> int:
    """Measure each size, print the figures, and return 1 if a target is missed."""
    if len(sys.argv) == 4:
        print(json.dumps(play(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
        return 0
    found = {}
    for rows in SIZES:
        folder = Path(tempfile.mkdtemp(prefix="kling-scale-", dir=os.environ.get("BENCH_DIR")))
        try:
            found[rows] = measure(rows, folder)
        finally:
            shutil.rmtree(folder)
    return report(found)


if __name__ == "__main__":
    sys.exit(main())
