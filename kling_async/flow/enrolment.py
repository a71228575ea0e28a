"""The first record of a request: its bytes kept, its key and its name given. No file is read for it."""

from __future__ import annotations

from attrs import evolve

from kling_async.ports import Images
from kling_async.rules.identity import default_key, written_digest
from kling_async.rules.naming import file_stem
from kling_async.types.record import Record
from kling_async.types.request import ImageToVideo


async def planned_record(request: ImageToVideo, images: Images) -> Record:
    """Return the PLANNED record of a request.

    Args:
        request: What is asked for.
        images: Keeps bytes beside the journal.

    Raises:
        JournalError: The bytes cannot be kept.
    """
    kept = evolve(
        request,
        image=await images.keep(request.image),
        tail_image=None if request.tail_image is None else await images.keep(request.tail_image),
        static_mask=None if request.static_mask is None else await images.keep(request.static_mask),
        dynamic_masks=tuple([evolve(mask, mask=await images.keep(mask.mask)) for mask in request.dynamic_masks]),
    )
    written = written_digest(kept)
    key = request.key if request.key is not None else default_key(written)
    return Record(key, f"{file_stem(key)}.mp4", kept, written)
