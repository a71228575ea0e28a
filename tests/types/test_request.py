"""A request that exists is valid, and one that is not tells everything that is wrong with it."""

from __future__ import annotations

import base64
import pathlib
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.errors import InvalidRequest
from kling_async.types.image import ImageKind, ImageSource
from kling_async.types.request import DURATIONS, MODEL, WIRE_FIELDS, DynamicMask, ImageToVideo, Point

QUICK = settings(deadline=None, max_examples=60)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
URL = "https://example.com/mona.jpg"
MASK = {"mask": "mask.png", "trajectories": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}


def data_uri(content: bytes = PNG, mime: str = "image/png", parameters: str = "") -> str:
    return f"data:{mime}{parameters};base64,{base64.b64encode(content).decode()}"


def made(**values: Any) -> ImageToVideo:
    return ImageToVideo(**{"image": URL, **values})


def faults(**values: Any) -> list[tuple[str, str]]:
    """Return field and message of each fault of a request; empty where it is valid."""
    try:
        made(**values)
    except InvalidRequest as error:
        assert error.status is None
        assert error.issues
        return [(issue.field, issue.message) for issue in error.issues]
    return []


def faulty_fields(**values: Any) -> list[str]:
    return [field for field, _ in faults(**values)]


def test_an_image_is_all_that_must_be_given() -> None:
    """Everything else has the service's own default, or is absent."""
    request = ImageToVideo(URL)
    assert (request.model, request.duration, request.prompt, request.cfg_scale) == (MODEL, 5, None, None)
    assert request.dynamic_masks == ()
    assert request.images == (("image", ImageSource(ImageKind.URL, URL)),)


def test_all_faults_are_told_at_once_with_their_fields() -> None:
    """One try is enough to learn everything that must be mended."""
    with pytest.raises(InvalidRequest) as caught:
        ImageToVideo(
            image="",
            prompt=5,  # type: ignore[arg-type]
            tail_image="ftp://example.com/x.png",
            duration=7,
            negative_prompt="\ud800",
            cfg_scale=1.5,
            static_mask=b"",
            dynamic_masks=[MASK, {"mask": "m.png", "trajectories": []}] + [MASK] * 5,
            model=" ",
            key="",
            carry=[1],  # type: ignore[arg-type]
            extra={"prompt": "x", "image_url": "y"},
        )
    assert [issue.field for issue in caught.value.issues] == [
        "image",
        "tail_image",
        "static_mask",
        "prompt",
        "negative_prompt",
        "duration",
        "cfg_scale",
        "dynamic_masks",
        "dynamic_masks[1]",
        "model",
        "key",
        "carry",
        "extra",
        "extra",
    ]
    for issue in caught.value.issues:
        assert str(issue) in str(caught.value)


class TestImages:
    """An image may be given as a URL, a data URI, a path or bytes."""

    @pytest.mark.parametrize(
        "url", [URL, "HTTP://example.com/a", "https://example.com/a?token=1&x=%20", "https://bücher.example/ü.png"]
    )
    def test_a_url_is_passed_on_as_it_is(self, url: str) -> None:
        """Not a letter of it is changed."""
        source = ImageSource.of(url)
        assert (source.kind, source.text, source.fault) == (ImageKind.URL, url, "")

    @pytest.mark.parametrize(
        "url",
        ["https://", "https:///a.png", "http://?x", "https://a b/c", "https://a/b\n", "https://a/\ud800", "http:// "],
    )
    def test_a_url_that_cannot_be_asked_for_is_told(self, url: str) -> None:
        """A space, no host, or half a character in it."""
        assert faulty_fields(image=url) == ["image"]

    @pytest.mark.parametrize("path", ["mona.png", "/data/a b.jpg", "C:\\x.png", "a?b.png", "日本.png", "data/x.png"])
    def test_text_that_is_nothing_else_is_a_path(self, path: str) -> None:
        """It stays as it was written; the folder it starts from stands beside it."""
        source = ImageSource.of(path, base="/rows")
        assert (source.kind, source.text, source.base, source.fault) == (ImageKind.PATH, path, "/rows", "")

    def test_a_path_object_is_a_path(self) -> None:
        """Also one that looks like a URL, since its type says what it is."""
        assert ImageSource.of(pathlib.PurePosixPath("a/b.png")) == ImageSource(ImageKind.PATH, "a/b.png")

    @pytest.mark.parametrize("content", [PNG, bytearray(PNG), memoryview(PNG)])
    def test_bytes_are_the_image_itself(self, content: bytes) -> None:
        """And are copied, so that nobody changes them later."""
        source = ImageSource.of(content)
        assert (source.kind, source.content) == (ImageKind.BYTES, PNG)
        assert type(source.content) is bytes

    @QUICK
    @given(st.binary(min_size=1), st.sampled_from(["image/png", "IMAGE/JPEG", "image/x-y"]))
    def test_a_data_uri_is_decoded(self, content: bytes, mime: str) -> None:
        """It becomes the bytes, and its type is kept."""
        source = ImageSource.of(data_uri(content, mime))
        assert (source.kind, source.content, source.mime, source.fault) == (
            ImageKind.BYTES,
            content,
            mime.lower(),
            "",
        )

    def test_a_data_uri_may_have_parameters(self) -> None:
        """They stand between the type and the base64."""
        assert ImageSource.of(data_uri(parameters=";name=a.png")).content == PNG
        assert ImageSource.of(data_uri().replace("data:", "DATA:").replace("base64", "Base64")).content == PNG

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("data:image/png;base64,QUJ", "damaged"),
            ("data:image/png;base64,QU!D", "damaged"),
            ("data:image/png;base64,QUJD\nQUJD", "damaged"),
            ("data:image/png;base64,Ü", "damaged"),
            ("data:image/png;base64,", "empty"),
            ("data:image/png,abc", "without base64"),
            ("data:image/png", "without base64"),
            ("data:", "without base64"),
            ("data:text/html;base64,QUJD", "text/html"),
            ("data:application/pdf;base64,QUJD", "application/pdf"),
            ("data:;base64,QUJD", "no type"),
        ],
    )
    def test_a_data_uri_that_is_no_image_is_told(self, text: str, word: str) -> None:
        """With what is wrong with it."""
        [(field, message)] = faults(image=text)
        assert field == "image"
        assert word in message

    def test_bare_base64_is_refused(self) -> None:
        """The service would refuse it too; taken for a path it would only be "not found"."""
        [(_, message)] = faults(image=base64.b64encode(PNG).decode())
        assert "base64" in message
        assert "data URI" in message
        assert faulty_fields(image=base64.encodebytes(PNG).decode()) == ["image"]

    @pytest.mark.parametrize("value", ["", "  ", b"", None, 5, [URL], "s3://bucket/a.png", "file:///a.png", "a\0b"])
    def test_what_is_no_image_is_told(self, value: Any) -> None:
        """Nothing but an InvalidRequest comes of it."""
        assert faulty_fields(image=value) == ["image"]

    def test_a_source_is_taken_as_it_is(self) -> None:
        """What was read once is not read again."""
        source = ImageSource.of("mona.png", base="/rows")
        assert ImageToVideo(source).image is source

    @pytest.mark.parametrize("name", ["tail_image", "static_mask"])
    def test_every_image_takes_every_form(self, name: str) -> None:
        """And None means that there is none."""
        values: list[Any] = [URL, "a.png", PNG, data_uri(), pathlib.PurePosixPath("a.png")]
        for value in values:
            assert getattr(made(**{name: value}), name) == ImageSource.of(value)
        assert getattr(made(**{name: None}), name) is None
        assert faulty_fields(**{name: ""}) == [name]

    def test_the_images_are_named_in_order(self) -> None:
        """The input first; each mask by its place."""
        request = ImageToVideo(URL, tail_image="t.png", static_mask="s.png", dynamic_masks=[MASK, MASK])
        assert [name for name, _ in request.images] == [
            "image",
            "tail_image",
            "static_mask",
            "dynamic_masks[0].mask",
            "dynamic_masks[1].mask",
        ]


class TestNumbers:
    """Numbers are read as the service reads them."""

    @pytest.mark.parametrize(("value", "seconds"), [(5, 5), (10, 10), ("5", 5), (" 10 ", 10), (5.0, 5), (10.0, 10)])
    def test_a_duration_is_5_or_10(self, value: Any, seconds: int) -> None:
        """As a number or as text, as the service itself takes both."""
        request = ImageToVideo(URL, duration=value)
        assert request.duration == seconds
        assert type(request.duration) is int

    @pytest.mark.parametrize(
        "value",
        [
            *(7, "7", 0, -5, 5.5, True, None, "", "five", "5s", "٥", Decimal(5), 5 + 0j),
            *(float("nan"), float("inf"), [5], "9" * 5000, 10**5000),
        ],
        ids=lambda value: repr(value)[:12] if not isinstance(value, int) or value < 100 else "huge",
    )
    def test_no_other_duration_is_taken(self, value: Any) -> None:
        """It is told, however odd or large it is."""
        [(field, message)] = faults(duration=value)
        assert field == "duration"
        assert "5 or 10" in message
        assert len(message) < 200

    @pytest.mark.parametrize(
        ("value", "scale"), [("0.5", 0.5), (0, 0.0), (1, 1.0), (0.25, 0.25), ("1", 1.0), (None, None)]
    )
    def test_a_scale_lies_between_0_and_1(self, value: Any, scale: float | None) -> None:
        """As a number or as text; without one the service's default holds."""
        assert ImageToVideo(URL, cfg_scale=value).cfg_scale == scale

    @pytest.mark.parametrize(
        "value",
        [1.5, -0.1, "1.5", "", "half", True, float("nan"), "nan", float("inf"), "9" * 5000, 10**400, 10**5000, [0.5]],
        ids=lambda value: repr(value)[:12] if not isinstance(value, int) or value < 100 else "huge",
    )
    def test_no_other_scale_is_taken(self, value: Any) -> None:
        """It is told, however odd or large it is."""
        [(field, message)] = faults(cfg_scale=value)
        assert field == "cfg_scale"
        assert len(message) < 200

    @QUICK
    @given(st.one_of(st.integers(), st.floats(), st.text(max_size=8), st.booleans(), st.none()))
    def test_a_number_is_valid_or_told(self, value: Any) -> None:
        """Whatever is given, what comes out is a value the service takes, or one fault of that field."""
        for name in ("duration", "cfg_scale"):
            try:
                request = ImageToVideo(URL, **{name: value})
            except InvalidRequest as error:
                assert [issue.field for issue in error.issues] == [name]
            else:
                assert request.duration in DURATIONS
                assert request.cfg_scale is None or 0 <= request.cfg_scale <= 1


class TestMasks:
    """Masks are taken as values and as mappings."""

    def test_a_mapping_is_a_mask(self) -> None:
        """As it stands in a manifest or a JSON document."""
        [mask] = ImageToVideo(URL, dynamic_masks=[MASK]).dynamic_masks
        assert mask == DynamicMask(ImageSource(ImageKind.PATH, "mask.png"), (Point(1, 2), Point(3, 4)))

    def test_none_is_no_mask(self) -> None:
        """An absent column is None."""
        assert ImageToVideo(URL, dynamic_masks=None).dynamic_masks == ()

    @pytest.mark.parametrize("count", [2, 77])
    def test_a_mask_moves_over_2_to_77_points(self, count: int) -> None:
        """Both ends are allowed."""
        assert faults(dynamic_masks=[{"mask": URL, "trajectories": [{"x": i, "y": 0} for i in range(count)]}]) == []

    @pytest.mark.parametrize(
        "mask",
        [
            {},
            None,
            "mask.png",
            {"mask": "m.png"},
            {**MASK, "more": 1},
            {**MASK, "mask": ""},
            {**MASK, "trajectories": None},
            {**MASK, "trajectories": "1,2"},
            {**MASK, "trajectories": {"x": 1, "y": 2}},
            {**MASK, "trajectories": [{"x": 1, "y": 2}]},
            {**MASK, "trajectories": [{"x": i, "y": 0} for i in range(78)]},
            {**MASK, "trajectories": [{"x": 1, "y": 2}, {"x": 1.5, "y": 2}]},
            {**MASK, "trajectories": [{"x": 1, "y": 2}, {"x": True, "y": 2}]},
            {**MASK, "trajectories": [{"x": 1, "y": 2}, {"x": "1", "y": 2}]},
            {**MASK, "trajectories": [{"x": 1, "y": 2}, [1, 2]]},
            DynamicMask(ImageSource.of("m.png"), (Point(1, 2),)),
            DynamicMask(ImageSource.of(""), (Point(1, 2), Point(3, 4))),
            DynamicMask(ImageSource.of("m.png"), (Point(1, 2), Point("3", 4))),  # type: ignore[arg-type]
        ],
    )
    def test_a_mask_that_is_none_is_told_by_its_place(self, mask: Any) -> None:
        """Made with `of` or by hand, it does not get into a request."""
        assert faulty_fields(dynamic_masks=[MASK, mask]) == ["dynamic_masks[1]"]

    @pytest.mark.parametrize("value", ["m.png", b"x", MASK, 5])
    def test_masks_must_be_a_list(self, value: Any) -> None:
        """One mask alone, or text, is a mistake that is told."""
        assert faulty_fields(dynamic_masks=value) == ["dynamic_masks[0]"]

    def test_a_mask_made_by_hand_may_name_its_image(self) -> None:
        """What `of` would read from a mapping is read from a value too."""
        mask = DynamicMask("m.png", (Point(1, 2), Point(3, 4)))  # type: ignore[arg-type]
        assert ImageToVideo(URL, dynamic_masks=[mask]).dynamic_masks[0].mask == ImageSource.of("m.png")


class TestOwnFields:
    """The caller's own: key, carry, extra."""

    @pytest.mark.parametrize("key", [None, "a", "日本", "a/b", " ", "x" * 500, "0"])
    def test_a_key_is_any_text_of_1_to_500_characters(self, key: str | None) -> None:
        """How it becomes a file's name is not the caller's trouble."""
        assert ImageToVideo(URL, key=key).key == key

    @pytest.mark.parametrize("key", ["", "x" * 501, "\ud800", 5, b"a", True])
    def test_no_other_key_is_taken(self, key: Any) -> None:
        """Half a character could never be written down."""
        assert faulty_fields(key=key) == ["key"]

    @pytest.mark.parametrize("name", sorted(WIRE_FIELDS))
    def test_extra_may_not_name_a_typed_field(self, name: str) -> None:
        """Otherwise the wire would carry a value that nobody checked."""
        [(field, message)] = faults(extra={name: None})
        assert field == "extra"
        assert name in message

    @pytest.mark.parametrize(
        "extra",
        [
            {"a": object()},
            {"a": float("nan")},
            {"a": "\ud800"},
            {"a": {"b": {1, 2}}},
            {"a": b"x"},
            {1: 2},
            "a=b",
            [("a", 1)],
        ],
    )
    def test_extra_must_fit_on_the_wire(self, extra: Any) -> None:
        """What is no JSON is told before anything is enrolled, not when its turn to be bought comes."""
        assert faulty_fields(extra=extra) == ["extra"]

    def test_extra_and_carry_are_taken_as_they_are(self) -> None:
        """As copies: who changes his own mapping later changes no request."""
        extra, carry = {"seed": 7, "deep": {"a": [1, None]}}, {"label": object()}
        request = ImageToVideo(URL, extra=extra, carry=carry)
        assert (request.extra, request.carry) == (extra, carry)
        extra["seed"] = 8
        carry.clear()
        assert request.extra["seed"] == 7
        assert "label" in request.carry

    @pytest.mark.parametrize("carry", [{1: 2}, [1], "a"])
    def test_carry_must_have_names(self, carry: Any) -> None:
        """Its entries become columns."""
        assert faulty_fields(carry=carry) == ["carry"]

    @pytest.mark.parametrize("model", ["", " ", None, 5, "\ud800"])
    def test_a_model_must_be_named(self, model: Any) -> None:
        """The service has no default."""
        assert faulty_fields(model=model) == ["model"]

    @pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
    def test_a_text_must_be_text(self, name: str) -> None:
        """And such that can be written as UTF-8."""
        assert faults(**{name: "Ein 🎈 für 日本\n"}) == []
        assert faulty_fields(**{name: b"x"}) == [name]
        assert faulty_fields(**{name: "half \ud83c"}) == [name]


@pytest.mark.parametrize(("value", "number"), [(None, None), (1, 1), ("2", 2), (3.0, 3), (999_999_999, 999_999_999)])
def test_a_sample_is_a_number_from_1(value: Any, number: int | None) -> None:
    """However it is spelt."""
    assert ImageToVideo("a.png", sample=value).sample == number


@pytest.mark.parametrize("value", [0, -1, "0", 1.5, "x", "", True, 10**9, [], float("nan")])
def test_no_other_sample_is_taken(value: Any) -> None:
    """The fault names its field."""
    with pytest.raises(InvalidRequest) as refused:
        ImageToVideo("a.png", sample=value)
    assert [issue.field for issue in refused.value.issues] == ["sample"]


class TestValues:
    """A request is a value."""

    def test_the_repr_shows_no_bytes_and_no_query(self) -> None:
        """What is secret, or long, does not get into a log by accident."""
        request = ImageToVideo(
            "https://bucket.example/a.png?X-Amz-Signature=SECRET",
            tail_image=data_uri(b"SECRET" * 50),
            static_mask=b"SECRET" * 50,
            dynamic_masks=[{**MASK, "mask": "https://bucket.example/m.png?sig=SECRET"}],
        )
        assert "SECRET" not in repr(request)
        assert base64.b64encode(b"SECRET" * 50).decode()[:40] not in repr(request)
        assert "https://bucket.example/a.png" in repr(request)
        assert len(repr(request)) < 2000

    def test_a_fault_shows_no_query(self) -> None:
        """Nor does an error's text."""
        assert "SECRET" not in str(faults(image="s3://bucket/a.png?sig=SECRET"))

    def test_requests_of_equal_content_are_equal(self) -> None:
        """However their values were spelled."""
        one = ImageToVideo("a.png", "x", duration="5", cfg_scale="0.5", dynamic_masks=[MASK], carry={"a": 1})
        other = ImageToVideo(
            ImageSource.of("a.png"),
            "x",
            duration=5,
            cfg_scale=0.5,
            dynamic_masks=(DynamicMask.of(MASK),),
            carry={"a": 1},
        )
        assert one == other
        assert hash(one) == hash(other)
        assert one != evolve(other, carry={"a": 2})
        assert one != evolve(other, prompt="y")

    def test_a_request_cannot_be_changed(self) -> None:
        """Only copied with a change."""
        with pytest.raises(FrozenInstanceError):
            ImageToVideo(URL).prompt = "x"  # type: ignore[misc]

    def test_a_changed_copy_is_judged_too(self) -> None:
        """A value that exists is valid, whichever way it came to be."""
        request = ImageToVideo("a.png", "x", duration=10, dynamic_masks=[MASK], key="k", extra={"seed": 1})
        assert evolve(request) == request
        assert evolve(request, duration="5").duration == 5
        for change in ({"duration": 7}, {"image": ""}, {"cfg_scale": 2}, {"key": ""}, {"extra": {"model": "x"}}):
            with pytest.raises(InvalidRequest):
                evolve(request, **change)


@pytest.mark.parametrize("space", [" ", "\t", "\n", "\u2003", "\x1c", "\x1f", "\x85"])
def test_space_around_a_number_does_not_count(space: str) -> None:
    """Whatever stands for space: a spreadsheet leaves some."""
    assert ImageToVideo("a.png", duration=f"{space}5{space}", sample=f"{space}2").duration == 5
