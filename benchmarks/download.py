"""How fast videos come to the disk, and at what cost: ours against curl, and against what one would write by hand.

    python -m benchmarks.download [--full]

Eight files of 20 MB at once from nginx on this machine, over http and over https. In turn, each in a process of its
own:

- *ours*, `KlingClient.download`: into a temporary name, digested, its boxes walked, flushed to the disk, renamed;
- *curl*, `curl --parallel`: into files;
- *by hand*: aiohttp's `iter_chunked(64 KiB)`, each piece written by aiofiles;
- *by hand, safe*: the same with what makes a file one to rely on: digested, flushed to the disk, then renamed;
- *bare aiohttp*: the bytes are received and thrown away. No contender, but the ceiling of all that is built on it.

Ours and the safe one look at the bytes and wait until they are durable: the flush is part of their time. Of the others
none does.
nginx has the last core; the clients run where the system puts them. `BENCH_DIR` says on which disk. It must never
compare figures of two runs.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import struct
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.gauges import Cost, judge, measured, middle, of_process, of_program, ratio, shown, tell
from benchmarks.nginx import Host, missing, serving

AT_ONCE: Final = 8
SIZE: Final = 20_000_000
ROUNDS: Final = 5
MORE_ROUNDS: Final = 21
OF_CURL: Final = {"http": 0.60, "https": 0.55}
"""The speed of ours, as a share of curl's: the targets."""
OF_HAND: Final = 1.4
"""Times the speed of what one writes by hand: the target, over http."""
WARM: Final = "warm.mp4"
"""A small file that is fetched first: what a client loads once is not counted."""


def clip(size: int) -> bytes:
    """Build an MP4 of so many bytes that has all it needs, and noise for a picture."""

    def box(kind: bytes, payload: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(payload), kind) + payload

    front = box(b"ftyp", b"isom\0\0\2\0isommp41") + box(b"moov", box(b"mvhd", bytes(100)))
    return front + box(b"mdat", random.Random(1).randbytes(size - len(front) - 8))


def names() -> list[str]:
    """Return the files' names."""
    return [f"{number}.mp4" for number in range(AT_ONCE)]


async def ours(base: str, folder: Path) -> Cost:
    """Ours, as a program uses it."""
    from kling_async import Generation, open_client  # noqa: PLC0415  # each process loads its own contender alone
    from kling_async.types.generation import GenerationStatus, RemoteVideo  # noqa: PLC0415

    async with open_client(base_url=base, api_key="sk-benchmark", downloads_at_once=AT_ONCE) as client:

        async def fetch(name: str) -> None:
            generation = Generation("generation", GenerationStatus.COMPLETED, video=RemoteVideo(f"{base}/{name}"))
            await client.download(generation, folder / name)

        await fetch(WARM)
        return await measured(partial(_all, fetch))


async def by_hand(base: str, folder: Path) -> Cost:
    """What one writes by hand."""
    import aiofiles  # noqa: PLC0415
    import aiohttp  # noqa: PLC0415

    async with aiohttp.ClientSession() as session:

        async def fetch(name: str) -> None:
            async with session.get(f"{base}/{name}") as answer, aiofiles.open(folder / name, "wb") as file:
                async for piece in answer.content.iter_chunked(64 * 1024):
                    await file.write(piece)

        await fetch(WARM)
        return await measured(partial(_all, fetch))


async def by_hand_safe(base: str, folder: Path) -> Cost:
    """What one writes by hand, and can rely on: digested, durable, under its name only when it is whole."""
    import aiofiles  # noqa: PLC0415
    import aiohttp  # noqa: PLC0415

    async with aiohttp.ClientSession() as session:

        async def fetch(name: str) -> None:
            part, digest = folder / f"{name}.part", hashlib.sha256()
            async with session.get(f"{base}/{name}") as answer, aiofiles.open(part, "wb") as file:
                async for piece in answer.content.iter_chunked(64 * 1024):
                    digest.update(piece)
                    await file.write(piece)
                await file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            await asyncio.to_thread(part.replace, folder / name)

        await fetch(WARM)
        return await measured(partial(_all, fetch))


async def bare(base: str, _folder: Path) -> Cost:
    """Nothing but aiohttp."""
    import aiohttp  # noqa: PLC0415

    async with aiohttp.ClientSession() as session:

        async def fetch(name: str) -> None:
            async with session.get(f"{base}/{name}") as answer:
                got = 0
                async for piece in answer.content.iter_any():
                    got += len(piece)
                assert name == WARM or got == SIZE

        await fetch(WARM)
        return await measured(partial(_all, fetch))


async def curl(base: str, folder: Path) -> Cost:
    """The same by curl."""
    command = ["curl", "--fail", "--silent", "--show-error", "--no-progress-meter"]
    command += ["--parallel", "--parallel-immediate", "--parallel-max", str(AT_ONCE)]
    for name in names():
        command += ["--output", str(folder / name), f"{base}/{name}"]
    return of_program(command)


async def _all(fetch: Callable[[str], Awaitable[None]]) -> None:
    await asyncio.gather(*(fetch(name) for name in names()))


CONTENDERS: Final[dict[str, Callable[[str, Path], Awaitable[Cost]]]] = {
    "ours": ours,
    "curl": curl,
    "by hand": by_hand,
    "by hand, safe": by_hand_safe,
    "bare aiohttp": bare,
}


def run(name: str, base: str, host: Host, digest: str) -> Cost:
    """Let one contender fetch all files in a process of its own, and look at what came."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        known = {"SSL_CERT_FILE": str(host.certificate), "CURL_CA_BUNDLE": str(host.certificate)}
        cost = of_process("benchmarks.download", "--one", name, base, folder, environment=known)
        for file in names() if name != "bare aiohttp" else ():
            assert hashlib.sha256(Path(folder, file).read_bytes()).hexdigest() == digest, f"{name}: {file}"
        return cost


def compare(rounds: int) -> dict[tuple[str, str], list[Cost]]:
    """Measure all in turn."""
    found: dict[tuple[str, str], list[Cost]] = {}
    with tempfile.TemporaryDirectory() as around:
        files, own = Path(around, "files"), Path(around, "own")
        files.mkdir()
        own.mkdir()
        content = clip(SIZE)
        for name in names():
            (files / name).write_bytes(content)
        (files / WARM).write_bytes(clip(100_000))
        digest = hashlib.sha256(content).hexdigest()
        with serving(files, own) as host:
            for _ in range(rounds):
                for scheme, base in (("http", host.http), ("https", host.https)):
                    for name in CONTENDERS:
                        found.setdefault((scheme, name), []).append(run(name, base, host, digest))
    return found


def report(found: dict[tuple[str, str], list[Cost]], rounds: int) -> int:
    """Print the table and the verdicts; return 1 if a target is missed."""
    total = AT_ONCE * SIZE
    print(f"{AT_ONCE} x {SIZE // 10**6} MB at once; {rounds} rounds in turn, medians; `ours is` is in time")
    print(f"{'':22}{'MB/s':>8}{'CPU s/GB':>10}{'peak MB':>9}{'blocked ms':>12}{'ours is':>10}")
    for (scheme, name), costs in found.items():
        seconds, cpu = middle(costs, "seconds"), middle(costs, "cpu")
        assert seconds is not None
        assert cpu is not None
        times = ratio(found[scheme, "ours"], costs)
        figures = f"{total / seconds / 1e6:8,.0f}{cpu / total * 1e9:10.2f}{shown(middle(costs, 'growth'), 1e6, 1):>9}"
        print(f"{scheme:7}{name:15}{figures}{shown(middle(costs, 'blocked'), 1e-3, 1):>12}{times:8.2f} x")
    verdicts = []
    for scheme, least in OF_CURL.items():
        times = ratio(found[scheme, "ours"], found[scheme, "curl"])
        verdicts.append((times >= least, f"{scheme}: {times:.2f} of curl's speed, at least {least:.2f}"))
    times = ratio(found["http", "ours"], found["http", "by hand"])
    verdicts.append((times >= OF_HAND, f"http: {times:.2f} x what one writes by hand, at least {OF_HAND:g}"))
    for scheme in OF_CURL:
        times = ratio(found[scheme, "ours"], found[scheme, "by hand, safe"])
        print(f"{scheme}: {times:.2f} x what one writes by hand that is as safe")
    return judge(verdicts)


def main() -> int:
    """Measure in turns, print the medians and the ratios, and return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help=f"{MORE_ROUNDS} rounds in place of {ROUNDS}")
    parser.add_argument("--one", nargs=3, metavar=("NAME", "BASE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, base, folder = arguments.one

        async def one() -> Cost:
            return await CONTENDERS[name](base, Path(folder))

        tell(asyncio.run(one()))
        return 0
    lacking = missing("curl")
    if lacking:
        print(lacking, file=sys.stderr)
        return 1
    rounds = MORE_ROUNDS if arguments.full else ROUNDS
    return report(compare(rounds), rounds)


if __name__ == "__main__":
    sys.exit(main())
