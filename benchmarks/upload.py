"""What it takes to send images, 32 of 10 MB at once: ours against the naive way.

    python -m benchmarks.upload [--full]

The receiver is a process on this machine that looks at nothing. In turn, each in a process of its own:

- *ours*, `KlingClient.submit`: a request is prepared (its image is digested and looked at) and submitted, its body
  streamed, a few at once;
- *naive*: the file is read, encoded whole, put into a JSON document and posted by aiohttp;
- *base64*: the files are read and encoded piece by piece, and nothing is sent. No contender, but the floor.

Every image is sent once, from the system's cache. For how long the loop stood still is told twice: by the clock, and in
CPU of its own thread, which another program that wants the cores at that moment does not lengthen. It must never
compare figures of two runs.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import random
import struct
import sys
import tempfile
import zlib
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.gauges import Cost, judge, measured, middle, of_process, ratio, shown, tell
from benchmarks.sink import taking

AT_ONCE: Final = 32
REQUESTS: Final = 64
SIZE: Final = 10_000_000
ROUNDS: Final = 3
MORE_ROUNDS: Final = 11
MODEL: Final = "kling-video/v1/standard/image-to-video"
PIECE: Final = 192 * 1024
TIMES: Final = 2.0
"""Requests a second, against the naive way: the target."""
GROWTH: Final = 16e6
"""Bytes of memory at the most: the target."""
BLOCKED: Final = 0.015
"""Seconds for which the loop may stand still at the most: the target."""


def picture(number: int, size: int) -> bytes:
    """Build a PNG of so many bytes: the head of a photograph, and noise."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))

    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1920, 1080, 8, 2, 0, 0, 0))
    end = chunk(b"IEND", b"")
    noise = random.Random(number).randbytes(size - len(head) - len(end) - 12)
    return head + chunk(b"IDAT", noise) + end


async def ours(base: str, files: list[Path]) -> Cost:
    """Ours, as a program uses it: 32 calls of `client.submit` at once, of which it lets few into the air."""
    from kling_async import ImageToVideo, open_client  # noqa: PLC0415  # each process loads its own contender alone

    async with open_client(base_url=base, api_key="sk-benchmark", max_in_flight=AT_ONCE) as client:

        async def send(path: Path) -> None:
            await client.submit(ImageToVideo(path, "a cat"))

        await send(files[0])
        return await measured(partial(_all, send, files[1:]))


async def naive(base: str, files: list[Path]) -> Cost:
    """What one writes by hand."""
    import aiohttp  # noqa: PLC0415

    async with aiohttp.ClientSession(base) as session:

        async def send(path: Path) -> None:
            image = base64.b64encode(path.read_bytes()).decode()  # noqa: ASYNC240  # that is naive
            document = {"model": MODEL, "prompt": "a cat", "image_url": f"data:image/png;base64,{image}"}
            async with session.post("/v2/video/generations", json=document) as answer:
                await answer.json(content_type=None)

        await send(files[0])
        return await measured(partial(_all, send, files[1:]))


async def floor(_base: str, files: list[Path]) -> Cost:
    """Read and encode, and nothing more."""

    async def encode(path: Path) -> None:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(PIECE):
                base64.b64encode(piece)

    return await measured(partial(_all, encode, files[1:]))


async def _all(send: Callable[[Path], Awaitable[None]], files: list[Path]) -> None:
    source = iter(files)

    async def worker() -> None:
        for path in source:
            await send(path)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


CONTENDERS: Final[dict[str, Callable[[str, list[Path]], Awaitable[Cost]]]] = {
    "ours": ours,
    "naive": naive,
    "base64": floor,
}


def compare(rounds: int) -> dict[str, list[Cost]]:
    """Measure all in turn."""
    found: dict[str, list[Cost]] = {}
    with tempfile.TemporaryDirectory() as folder, taking() as base:
        Path(folder, "00-warm.png").write_bytes(picture(0, 100_000))
        for number in range(1, REQUESTS + 1):
            Path(folder, f"{number:02}.png").write_bytes(picture(number, SIZE))
        for _ in range(rounds):
            for name in CONTENDERS:
                cost = of_process("benchmarks.upload", "--one", name, base, folder, environment={})
                found.setdefault(name, []).append(cost)
    return found


def report(found: dict[str, list[Cost]], rounds: int) -> int:
    """Print the table and the verdicts; return 1 if a target is missed."""
    print(f"{REQUESTS} images of {SIZE // 10**6} MB, {AT_ONCE} at once; {rounds} rounds in turn, medians")
    print(f"{'':10}{'requests/s':>12}{'CPU s/GB':>10}{'peak MB':>9}{'blocked ms':>12}{'CPU of it':>11}{'ours is':>10}")
    for name, costs in found.items():
        seconds, cpu = middle(costs, "seconds"), middle(costs, "cpu")
        assert seconds is not None
        assert cpu is not None
        figures = f"{REQUESTS / seconds:12.1f}{cpu / (REQUESTS * SIZE) * 1e9:10.2f}"
        memory, stood = shown(middle(costs, "growth"), 1e6, 1), shown(middle(costs, "blocked"), 1e-3, 1)
        worked = shown(middle(costs, "worked"), 1e-3, 1)
        print(f"{name:10}{figures}{memory:>9}{stood:>12}{worked:>11}{ratio(found['ours'], costs):8.2f} x")
    times = ratio(found["ours"], found["naive"])
    growth, blocked = middle(found["ours"], "growth") or 0.0, middle(found["ours"], "blocked") or 0.0
    return judge(
        [
            (times >= TIMES, f"requests/s: {times:.2f} x the naive way, at least {TIMES:g}"),
            (growth <= GROWTH, f"memory grows by {growth / 1e6:.1f} MB, at most {GROWTH / 1e6:g}"),
            (blocked <= BLOCKED, f"the loop stands still for {blocked * 1e3:.1f} ms, at most {BLOCKED * 1e3:g}"),
        ]
    )


def main() -> int:
    """Measure in turns, print the medians and the ratios, and return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help=f"{MORE_ROUNDS} rounds in place of {ROUNDS}")
    parser.add_argument("--one", nargs=3, metavar=("NAME", "BASE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, base, folder = arguments.one
        files = sorted(Path(folder).iterdir())

        async def one() -> Cost:
            return await CONTENDERS[name](base, files)

        tell(asyncio.run(one()))
        return 0
    rounds = MORE_ROUNDS if arguments.full else ROUNDS
    return report(compare(rounds), rounds)


if __name__ == "__main__":
    sys.exit(main())
