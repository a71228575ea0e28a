"""Decodes videos by PyAV, the extra `video`, to find damage that neither boxes nor digests tell.

PyAV is loaded when it is first asked for, and may be missing. Nothing is decided here, and no frame is kept: decoding
is slow, and never runs on the loop's thread.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from kling_async.adapters.disk import is_out_of_files
from kling_async.adapters.threads import Threads
from kling_async.errors import ConfigurationError


class AvDecoder:
    """Decodes videos, as many at once as there are processors; each on one thread."""

    def __init__(self) -> None:
        self._threads = Threads("kling-decode", os.cpu_count() or 1)

    async def check(self) -> None:
        """Make sure that PyAV is there.

        Raises:
            ConfigurationError: It is not installed, or cannot be loaded.
        """
        await self._threads.ask(_load)

    async def fault(self, path: Path) -> str | None:
        """Decode every frame of a video; return what is wrong, None where nothing is.

        Where no file can be opened, since too many are, it waits until one can.
        """
        return await self._threads.read(partial(_fault, path))

    async def aclose(self) -> None:
        """Let the threads go; what they decode ends by itself."""
        self._threads.close()


def _load() -> None:
    try:
        import av  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            f"frames are decoded by the extra `video`, which is not there ({error}): pip install 'kling-async[video]'"
        ) from None


def _fault(path: Path) -> str | None:
    import av  # noqa: PLC0415 - an extra

    frames = 0
    try:
        with av.open(str(path)) as container:
            streams = [stream for stream in container.streams if stream.type in {"video", "audio"}]
            for stream in streams:
                # A decoder conceals damage, unless it is told not to; the container's own options do not reach it.
                stream.codec_context.options = {"err_detect": "explode"}
                stream.codec_context.thread_count = 1
            for frame in container.decode(*streams):
                if isinstance(frame, av.VideoFrame):
                    frames += 1
                if isinstance(frame, av.VideoFrame | av.AudioFrame) and frame.is_corrupt:
                    return f"it is damaged at frame {frames}"
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, OSError) and is_out_of_files(error):
            raise
        return f"it cannot be decoded after frame {frames} ({error})"
    return None if frames else "there is no frame in it"
