"""Kling's own rules on a request's fields: each is told before a job fails by it."""

from __future__ import annotations

from typing import Any

import pytest

from kling_async.rules.limits import MAX_PROMPT, check_fields
from kling_async.types.request import ImageToVideo

MASK = {"mask": "m.png", "trajectories": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}
CAMERA = {"camera_control": {"type": "simple"}}


def broken(**values: Any) -> list[str]:
    """Return the field of each rule that a request breaks."""
    return [issue.field for issue in check_fields(ImageToVideo("a.png", **values))]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"prompt": ""},
        {"prompt": "日" * 2500, "negative_prompt": "🎈" * 2500},
        {"duration": 10},
        {"duration": 10, "extra": CAMERA},
        {"tail_image": "t.png"},
        {"static_mask": "s.png"},
        {"dynamic_masks": [MASK] * 6},
        {"static_mask": "s.png", "dynamic_masks": [MASK]},
        {"extra": CAMERA},
    ],
)
def test_what_the_model_takes_passes(values: dict[str, Any]) -> None:
    """Characters are counted, not bytes."""
    assert broken(**values) == []


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_a_text_has_at_most_2500_characters(name: str) -> None:
    """One more is told, with how many there are."""
    text: dict[str, Any] = {name: "x" * 2501}
    [issue] = check_fields(ImageToVideo("a.png", **text))
    assert issue.field == name
    assert "2501" in issue.message
    assert "2500" in issue.message
    assert MAX_PROMPT == 2500


@pytest.mark.parametrize("masks", [{"static_mask": "s.png"}, {"dynamic_masks": [MASK]}])
def test_a_tail_image_excludes_masks(masks: dict[str, Any]) -> None:
    """The one that is in the way is named."""
    [issue] = check_fields(ImageToVideo("a.png", tail_image="t.png", **masks))
    assert issue.field == "tail_image"
    assert next(iter(masks)) in issue.message


@pytest.mark.parametrize("other", [{"tail_image": "t.png"}, {"static_mask": "s.png"}, {"dynamic_masks": [MASK]}])
def test_camera_control_excludes_the_others(other: dict[str, Any]) -> None:
    """Though it travels in `extra`."""
    assert broken(extra=CAMERA, **other) == ["extra"]


@pytest.mark.parametrize("other", [{"tail_image": "t.png"}, {"static_mask": "s.png"}, {"dynamic_masks": [MASK]}])
def test_a_tail_image_and_masks_go_with_5_seconds_only(other: dict[str, Any]) -> None:
    """On v1 standard."""
    assert broken(duration=10, **other) == ["duration"]


def test_all_broken_rules_are_told_at_once() -> None:
    """Each with its field."""
    values = {
        "prompt": "x" * 3000,
        "negative_prompt": "x" * 3000,
        "tail_image": "t.png",
        "static_mask": "s.png",
        "dynamic_masks": [MASK],
        "duration": 10,
        "extra": CAMERA,
    }
    assert sorted(broken(**values)) == ["duration", "extra", "negative_prompt", "prompt", "tail_image"]
