"""Makes clips in threads of its own, keeps them, and gives out each generation's own.

A clip is made once for an image, a prompt and a duration, at a job's acceptance. What does not fit into memory lies in
a temporary folder. This room must never block the loop, nor use its default threads.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from attrs import evolve

from kling_async.simulator.clips import Master, read_template, render
from kling_async.simulator.jobs import DONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from kling_async.simulator.jobs import Job
    from kling_async.simulator.settings import SimulatorSettings

T = TypeVar("T")


class Studio:
    """Every clip of one simulated service.

    Args:
        settings: How clips are made, and how much memory they may take.
    """

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(min(4, os.cpu_count() or 2), "simulator-clips")
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._templates: dict[int, Master] = {}
        self._making: dict[str, asyncio.Future[bytes | None]] = {}
        self._sizes: dict[str, int] = {}
        self._kept: OrderedDict[str, Master] = OrderedDict()
        self._kept_bytes = 0
        self._closing = False

    async def open(self) -> None:
        """Read the packaged clips, and make room for others."""
        for duration in (5, 10):
            self._templates[duration] = await self.run(read_template, duration)
        if self._settings.clips == "rendered":
            self._folder = await self.run(partial(tempfile.TemporaryDirectory, prefix="simulator-clips-"))

    async def close(self) -> None:
        """Give up what is not begun, wait for the rest, and clean up."""
        self._closing = True
        if self._making:
            await asyncio.wait(list(self._making.values()))
        if self._folder is not None:
            await self.run(self._folder.cleanup)
        self._pool.shutdown(wait=False)

    def run(self, work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Begin something slow in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *arguments))

    def begin(self, job: Job) -> None:
        """Begin to make a job's clip, unless there is one already or none is needed; the job gives its image away."""
        image, job.order = job.order.image, evolve(job.order, image=None)
        key = _key(job)
        wanted = image is not None and self._folder is not None and job.fate.final in DONE
        if not wanted or image is None or key in self._making or key in self._sizes:
            return
        making = self.run(self._make, key, image, job.order.prompt, job.clip_duration)
        self._making[key] = making
        making.add_done_callback(partial(self._made, key))

    async def ready(self, job: Job) -> None:
        """Wait until a job's clip is made."""
        making = self._making.get(_key(job))
        if making is not None:
            await asyncio.wait([making])

    def size(self, job: Job) -> int:
        """Return the length of a job's clip, in bytes, once it is ready."""
        made = self._sizes.get(_key(job), 0) or self._templates[job.clip_duration].size
        missing = self._settings.clip_bytes - made
        return made + (max(8, missing) if missing > 0 else 0)

    async def master(self, job: Job) -> Master:
        """Return the clip of which a job's own is made: its own rendering, or a packaged one."""
        await self.ready(job)
        key = _key(job)
        if not self._sizes.get(key):
            return self._templates[job.clip_duration]
        if key not in self._kept:
            self._keep(key, Master.cut(await self.run(self._path(key).read_bytes)))
        self._kept.move_to_end(key)
        return self._kept[key]

    def clip(self, job: Job, master: Master) -> bytes:
        """Return a job's own clip."""
        return master.stamped(job.id, job.edition, self._settings.clip_bytes)

    def _make(self, key: str, image: bytes, prompt: str, duration: int) -> bytes | None:
        """Make a clip and lay it down, in a thread."""
        side, rate = self._settings.clip_side, self._settings.clip_rate
        clip = None if self._closing else render(image, prompt, duration, side=side, rate=rate)
        if clip is not None:
            self._path(key).write_bytes(clip)
        return clip

    def _made(self, key: str, making: asyncio.Future[bytes | None]) -> None:
        del self._making[key]
        clip = None if making.cancelled() or making.exception() else making.result()
        self._sizes[key] = 0 if clip is None else len(clip)
        if clip is not None:
            self._keep(key, Master.cut(clip))

    def _keep(self, key: str, master: Master) -> None:
        """Keep a clip in memory, and let go of those not used for longest; the last one always stays."""
        self._kept[key] = master
        self._kept_bytes += master.size
        while self._kept_bytes > self._settings.cache_bytes and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.size

    def _path(self, key: str) -> Path:
        if self._folder is None:
            raise RuntimeError("the studio is not open")
        return Path(self._folder.name, f"{key}.mp4")


def _key(job: Job) -> str:
    """Return what tells a clip from others: its image, prompt and duration."""
    text = f"{job.order.image_digest}/{job.clip_duration}/{job.order.prompt}"
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
