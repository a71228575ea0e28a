"""Kling's own rules on a request's fields, which surface as a failed job after acceptance if nobody checks first.

The service enforces them, not we: a caller may switch these checks off, and then hears it from the service. What the
pictures themselves must be is `kling_async.rules.images`.
"""

from __future__ import annotations

from collections.abc import Iterable

from kling_async.errors import Issue
from kling_async.types.request import ImageToVideo

MAX_PROMPT = 2500
"""Characters of a prompt, and of a negative prompt."""


def check_fields(request: ImageToVideo) -> list[Issue]:
    """Return every rule that a request breaks, with its field and what to do."""
    issues = []
    for name, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt)):
        if text is not None and len(text) > MAX_PROMPT:
            issues.append(Issue(name, f"has {len(text)} characters; the model takes at most {MAX_PROMPT}"))
    if len(request.images) > 1:
        issues += _not_together(request)
    return issues


def _not_together(request: ImageToVideo) -> Iterable[Issue]:
    """Yield what cannot go together with a tail image, or with masks; there is one of the two."""
    masks = [name for name in ("static_mask", "dynamic_masks") if getattr(request, name)]
    if request.tail_image is not None and masks:
        yield Issue("tail_image", f"cannot go together with {' and '.join(masks)}: leave one out")
    if "camera_control" in request.extra:
        yield Issue("extra", "camera_control cannot go together with a tail image or masks")
    if request.duration != 5:
        used = "a tail image" if request.tail_image is not None else "masks"
        yield Issue("duration", f"must be 5 with {used}")
