"""What a row is stays the same on every machine and in every version: it decides what was bought already."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from attrs import evolve
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kling_async.errors import InvalidRequest
from kling_async.rules.identity import (
    KEY_LENGTH,
    client_request_id,
    content_digest,
    default_key,
    document_of,
    draft_of,
    request_of,
    samples_of,
    written_digest,
)
from kling_async.types.image import ImageKind, ImageSource
from kling_async.types.request import ImageToVideo
from tests.rules import first

QUICK = settings(deadline=None, max_examples=150)
MASK = {"mask": "m.png", "trajectories": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}
VALID_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")
DIGEST = re.compile(r"[0-9a-f]{64}\Z")

ROWS = [
    ImageToVideo("https://example.com/mona.jpg", "Mona Lisa puts on glasses with her hands."),
    ImageToVideo("images/mona lisa.png"),
    ImageToVideo(b"\x89PNG picture", "日本 🎈", duration=10, cfg_scale=0.5),
    ImageToVideo(
        "a.png",
        "x",
        tail_image="https://example.com/t.png",
        negative_prompt="blur",
        cfg_scale=0,
        static_mask=b"mask",
        dynamic_masks=[MASK, MASK],
        model="kling-video/v1.6/standard/image-to-video",
        extra={"seed": 7, "camera_control": {"type": "simple", "config": {"zoom": 1.5}}},
    ),
]
PINNED = [
    "a7760914ef6a7bc17a8213389e84c6b837edd35095cc1a6ca06516015bb20cfe",
    "56e4cea20af93399616d35991d3423ee75d038f635187c9855305a3f84ba7b69",
    "efec2b3acb0ea97b21dd2028ee61f3e3f3342bc8f0553e549bc2de3d0e338421",
    "66301143855a2f693400ee0fcbe6c8d27c49a0bb67dec28a76afb4b4d8e8c72d",
]
PINNED_CONTENT = [
    "5b4bf59d8e532e0b87f2f9419d2688733678fa90cad0b6b4ffcbb58108b8de37",
    "fd33c2daee3cf2022191fd0a659ecb6457b84c3830412d3d34401b7abb4c18e0",
    "c4674929c8bc1a9132f2219074cb611f8e564a5c299cee378d9b3ad0338e3791",
    "43a5c895b7e7aa768f1153888f9cd13b5ffe83485bee0776fafd52ce854dd952",
]

PINNED_DOCUMENTS = [
    (
        '{"image":{"kind":"url","text":"https://example.com/mona.jpg"},"model":"kling-video/v1/standard/image-to-video",'
        '"prompt":"Mona Lisa puts on glasses with her hands.","duration":5,"key":"a/\\u00fc \\"1\\"","sample":2,'
        '"carry":{"shot":"\\u65e5\\u672c","n":[1,null,0.5]}}'
    ),
    (
        '{"image":{"kind":"path","text":"images/mona lisa.png"},"model":"kling-video/v1/standard/image-to-video",'
        '"duration":5,"key":"a/\\u00fc \\"1\\"","sample":2,"carry":{"shot":"\\u65e5\\u672c","n":[1,null,0.5]}}'
    ),
    (
        '{"image":{"kind":"stored","text":"61578ad7d8afde50f365251304f0c5e711cfb3f18d4fc2f620f1969bac827f2f"},'
        '"model":"kling-video/v1/standard/image-to-video","prompt":"\\u65e5\\u672c \\ud83c\\udf88","duration":10,'
        '"cfg_scale":0.5,"key":"a/\\u00fc \\"1\\"","sample":2,"carry":{"shot":"\\u65e5\\u672c","n":[1,null,0.5]}}'
    ),
    (
        '{"image":{"kind":"path","text":"a.png"},"tail_image":{"kind":"url","text":"https://example.com/t.png"},'
        '"static_mask":{"kind":"stored","text":"48bf9b4f142ab45cac6f33cf99415bca6ca8e07608a031237aa76560fec2204b"},'
        '"dynamic_masks":[{"mask":{"kind":"path","text":"m.png"},"trajectories":[[1,2],[3,4]]},'
        '{"mask":{"kind":"path","text":"m.png"},"trajectories":[[1,2],[3,4]]}],'
        '"model":"kling-video/v1.6/standard/image-to-video","prompt":"x","duration":5,"negative_prompt":"blur",'
        '"cfg_scale":0.0,"extra":{"seed":7,"camera_control":{"type":"simple","config":{"zoom":1.5}}},'
        '"key":"a/\\u00fc \\"1\\"","sample":2,"carry":{"shot":"\\u65e5\\u672c","n":[1,null,0.5]}}'
    ),
]

TEXT = st.text(max_size=12)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
SOURCES = st.one_of(
    TEXT.filter(lambda text: not any(letter.isspace() or letter < " " for letter in text)).map(
        "https://example.com/{}".format
    ),
    st.builds(lambda name, base: ImageSource.of(f"p{name}", base=base), st.text("abÜ日./? ", max_size=8), TEXT),
    st.builds(
        lambda content, mime: ImageSource(ImageKind.STORED, hashlib.sha256(content).hexdigest(), mime=mime),
        st.binary(max_size=3),
        st.sampled_from(["", "image/png"]),
    ),
)
MASKS = st.builds(
    lambda mask, points: {"mask": mask, "trajectories": [{"x": x, "y": y} for x, y in points]},
    SOURCES,
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=4),
)
REQUESTS = st.builds(
    ImageToVideo,
    SOURCES,
    st.one_of(st.none(), TEXT),
    tail_image=st.one_of(st.none(), SOURCES),
    duration=st.sampled_from([5, 10]),
    negative_prompt=st.one_of(st.none(), TEXT),
    cfg_scale=st.one_of(st.none(), st.floats(0, 1)),
    static_mask=st.one_of(st.none(), SOURCES),
    dynamic_masks=st.lists(MASKS, max_size=2),
    key=st.one_of(st.none(), st.text(min_size=1, max_size=10)),
    carry=st.dictionaries(TEXT, JSON, max_size=3),
    extra=st.dictionaries(TEXT.map("x{}".format), JSON, max_size=2),
)


def digests(request: ImageToVideo) -> dict[str, str]:
    """Stand in for the door that reads images: the digest of what is written."""
    return {name: hashlib.sha256(source.content or source.text.encode()).hexdigest() for name, source in request.images}


def _kept(request: ImageToVideo) -> ImageToVideo:
    """Stand in for the door that keeps bytes."""

    def kept(source: ImageSource) -> ImageSource:
        stored = ImageSource(ImageKind.STORED, hashlib.sha256(source.content).hexdigest())
        return stored if source.kind is ImageKind.BYTES else source

    mask = request.static_mask and kept(request.static_mask)
    return evolve(request, image=kept(request.image), static_mask=mask)


def content(request: ImageToVideo) -> str:
    return content_digest(request, digests(request))


class TestWritten:
    """The digest of the row as written."""

    @pytest.mark.parametrize(("request_", "pinned"), list(zip(ROWS, PINNED, strict=True)))
    def test_it_never_changes(self, request_: ImageToVideo, pinned: str) -> None:
        """A version that writes other digests takes every bought row for an edited one, or buys it again."""
        assert written_digest(request_) == pinned

    @pytest.mark.parametrize(("request_", "pinned"), list(zip(ROWS, PINNED_CONTENT, strict=True)))
    def test_nor_does_that_of_the_content(self, request_: ImageToVideo, pinned: str) -> None:
        """It tells which rows share one generation."""
        assert content(request_) == pinned

    @pytest.mark.parametrize("seed", ["0", "1", "4711", "random"])
    def test_it_is_the_same_in_every_process(self, seed: str) -> None:
        """Whatever order Python gives to its sets."""
        program = (
            "from tests.rules.test_identity import ROWS, content, written_digest\n"
            "print([written_digest(row) for row in ROWS], [content(row) for row in ROWS])"
        )
        found = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == f"{PINNED} {PINNED_CONTENT}"

    def test_what_is_the_caller_s_own_is_no_part_of_it(self) -> None:
        """Neither the key, nor what is carried, nor the folder that a manifest lies in."""
        row = ImageToVideo(
            ImageSource.of("a.png", base="/here"), "x", static_mask=ImageSource.of("s.png", base="/here")
        )
        moved = evolve(row, image=ImageSource.of("a.png", base="/there"), static_mask=ImageSource.of("s.png"))
        for same in (evolve(row, key="k"), evolve(row, carry={"label": object()}), moved):
            assert written_digest(same) == written_digest(row)
            assert content(same) == content(row)

    @pytest.mark.parametrize(
        "change",
        [
            {"image": "b.png"},
            {"image": b"a.png"},
            {"image": "https://a.png/"},
            {"prompt": "y"},
            {"prompt": ""},
            {"prompt": None},
            {"tail_image": "t.png"},
            {"static_mask": "t.png"},
            {"dynamic_masks": [MASK]},
            {"duration": 10},
            {"negative_prompt": "y"},
            {"cfg_scale": 0},
            {"cfg_scale": 0.5},
            {"model": "another"},
            {"extra": {"seed": 1}},
        ],
    )
    def test_everything_that_is_sent_is_part_of_it(self, change: dict[str, Any]) -> None:
        """A row that asks for another video is another row."""
        row = ImageToVideo("a.png", "x")
        assert written_digest(evolve(row, **change)) != written_digest(row)

    def test_a_value_s_spelling_is_no_part_of_it(self) -> None:
        """`5` and `"5"` are one row, and the order of extra fields means nothing."""
        one = ImageToVideo("a.png", duration="5", cfg_scale="1", extra={"a": 1, "b": 2})
        other = ImageToVideo("a.png", duration=5, cfg_scale=1.0, extra={"b": 2, "a": 1})
        assert written_digest(one) == written_digest(other)

    def test_bytes_count_by_their_content(self) -> None:
        """In memory, as a data URI, or kept by a journal: the same picture, the same row."""
        digest = hashlib.sha256(b"picture").hexdigest()
        sources: list[Any] = [b"picture", "data:image/png;base64,cGljdHVyZQ==", ImageSource(ImageKind.STORED, digest)]
        assert len({written_digest(ImageToVideo(source)) for source in sources}) == 1

    @QUICK
    @given(REQUESTS, REQUESTS)
    def test_two_rows_share_a_digest_only_if_they_ask_for_the_same(
        self, one: ImageToVideo, other: ImageToVideo
    ) -> None:
        """And always then."""

        def asked(row: ImageToVideo) -> object:
            plain = evolve(row, key=None, carry={}).extra, [(n, str(s.kind), s.text) for n, s in row.images]
            points = [mask.trajectories for mask in row.dynamic_masks]
            return (
                json.dumps(plain, sort_keys=True),
                points,
                row.prompt,
                row.duration,
                row.negative_prompt,
                repr(row.cfg_scale),
            )

        assert (written_digest(one) == written_digest(other)) == (asked(one) == asked(other))
        assert DIGEST.match(written_digest(one))


class TestContent:
    """The digest of what is sent."""

    def test_it_looks_through_names(self) -> None:
        """Two files of equal bytes make one video."""
        one, other = ImageToVideo("a.png", "x"), ImageToVideo("copy of a.png", "x")
        assert written_digest(one) != written_digest(other)
        assert content_digest(one, {"image": "d1"}) == content_digest(other, {"image": "d1"})

    def test_it_sees_an_edited_file(self) -> None:
        """The same name, other bytes: another video."""
        row = ImageToVideo("a.png", "x")
        assert content_digest(row, {"image": "d1"}) != content_digest(row, {"image": "d2"})

    def test_each_image_has_its_place(self) -> None:
        """First and last frame exchanged make another video."""
        row = ImageToVideo("a.png", tail_image="b.png", static_mask="c.png", dynamic_masks=[MASK, MASK])
        names = [name for name, _ in row.images]
        found = {
            content_digest(row, dict(zip(names, [f"d{(i + turn) % 5}" for i in range(5)], strict=True)))
            for turn in range(5)
        }
        assert len(found) == 5

    def test_the_prompt_is_part_of_it(self) -> None:
        """And every other parameter."""
        changes: list[dict[str, Any]] = [{}, {"prompt": "y"}, {"duration": 10}, {"cfg_scale": 1}, {"extra": {"a": 1}}]
        assert len({content(ImageToVideo("a.png", **change)) for change in changes}) == 5


class TestKey:
    """The key of a row without one."""

    def test_it_is_the_beginning_of_the_digest(self) -> None:
        """Long enough to stay apart among millions."""
        assert default_key("0123456789abcdef" * 4) == "0123456789abcdef01234567"
        assert KEY_LENGTH == 24

    @pytest.mark.parametrize("request_", ROWS)
    def test_it_is_a_valid_key(self, request_: ImageToVideo) -> None:
        """As any caller's own."""
        key = default_key(written_digest(request_))
        assert evolve(request_, key=key).key == key


class TestSamples:
    """Several videos of one row: each a row of its own, under a key that any run finds again."""

    @QUICK
    @given(st.sampled_from(ROWS), st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
    def test_each_has_its_number_behind_the_key(self, request_: ImageToVideo, key: str | None) -> None:
        """Behind the row's own key, or behind the one that it has without a number."""
        named = evolve(request_, key=key)
        samples = list(samples_of(named, 3))
        assert [sample.sample for sample in samples] == [1, 2, 3]
        base = default_key(written_digest(request_)) if key is None else key
        assert [sample.key for sample in samples] == [f"{base}.{number}" for number in (1, 2, 3)]
        assert [evolve(sample, key=key, sample=None) for sample in samples] == [named] * 3

    @pytest.mark.parametrize("request_", ROWS)
    def test_only_the_first_is_the_row_itself(self, request_: ImageToVideo) -> None:
        """As written, each is another row; of what is sent, the first shares with the row without a number."""
        digests = {name: "ab" for name, _ in request_.images}
        rows = [request_, *samples_of(request_, 4)]
        assert len({written_digest(row) for row in rows}) == 5
        contents = [content_digest(row, digests) for row in rows]
        assert contents[0] == contents[1]
        assert len(set(contents)) == 4

    def test_a_sample_has_no_samples(self) -> None:
        """One that comes from a list of failures keeps its key and its digests."""
        (sample,) = list(samples_of(ROWS[0], 1))
        assert list(samples_of(sample, 5)) == [sample]

    def test_they_are_made_as_they_are_taken(self) -> None:
        """A million of them cost nothing before."""
        samples = samples_of(evolve(ROWS[0], key="k"), 10**9)
        assert [next(samples).key, next(samples).key] == ["k.1", "k.2"]

    def test_a_key_that_has_no_room_for_a_number_is_told(self) -> None:
        """With the field."""
        with pytest.raises(InvalidRequest) as refused:
            list(samples_of(evolve(ROWS[0], key="k" * 498), 10))
        assert [issue.field for issue in refused.value.issues] == ["key"]


class TestDocument:
    """The request as the journal keeps it."""

    @pytest.mark.parametrize(("request_", "pinned"), list(zip(ROWS, PINNED_DOCUMENTS, strict=True)))
    def test_it_never_changes(self, request_: ImageToVideo, pinned: str) -> None:
        """A version that writes another takes every row that comes again for one whose paths were moved."""
        named = evolve(_kept(request_), key='a/ü "1"', carry={"shot": "日本", "n": [1, None, 0.5]}, sample=2)
        assert document_of(named) == pinned

    @QUICK
    @given(REQUESTS, st.none() | st.integers(1, 9))
    def test_it_is_what_the_first_version_wrote(self, request_: ImageToVideo, sample: int | None) -> None:
        """Byte for byte; so is what the digests are taken of."""
        request_ = evolve(request_, sample=sample)
        assert document_of(request_) == first.document(request_)
        assert written_digest(request_) == first.written_digest(request_)
        assert content(request_) == first.content_digest(request_, digests(request_))
        draft = draft_of(request_)
        assert draft.key == (request_.key if request_.key is not None else default_key(draft.written))
        assert (draft.written, draft.document) == (written_digest(request_), document_of(request_))

    @QUICK
    @given(REQUESTS)
    def test_a_request_comes_back_from_its_document(self, request_: ImageToVideo) -> None:
        """Through JSON, whole, with its digests: `retry` needs no manifest."""
        again = request_of(document_of(request_))
        assert again == request_
        assert written_digest(again) == written_digest(request_)
        assert content(again) == content(request_)

    @QUICK
    @given(REQUESTS)
    def test_a_document_is_small(self, request_: ImageToVideo) -> None:
        """What is absent is absent; a million of them are kept."""
        document = json.loads(document_of(request_))
        assert {name for name, value in document.items() if value is None} == set()
        assert ("tail_image" in document) == (request_.tail_image is not None)
        assert ("carry" in document) == bool(request_.carry)

    def test_a_document_is_read_by_every_version(self) -> None:
        """As an older one wrote it."""
        document = {
            "image": {"kind": "path", "text": "a.png", "base": "/rows"},
            "tail_image": {"kind": "url", "text": "https://example.com/t.png"},
            "static_mask": {"kind": "stored", "text": "ab" * 32, "mime": "image/png"},
            "dynamic_masks": [{"mask": {"kind": "path", "text": "m.png"}, "trajectories": [[1, 2], [3, 4]]}],
            "model": "kling-video/v1/standard/image-to-video",
            "prompt": "x",
            "duration": 10,
            "cfg_scale": 0.5,
            "extra": {"seed": 1},
            "key": "k",
            "carry": {"label": "cat"},
        }
        found = request_of(json.dumps(document))
        assert found == ImageToVideo(
            ImageSource.of("a.png", base="/rows"),
            "x",
            tail_image="https://example.com/t.png",
            duration=10,
            cfg_scale=0.5,
            static_mask=ImageSource(ImageKind.STORED, "ab" * 32, mime="image/png"),
            dynamic_masks=[MASK],
            key="k",
            carry={"label": "cat"},
            extra={"seed": 1},
        )
        assert json.loads(document_of(found)) == document

    def test_what_is_carried_is_kept_as_text_where_it_is_no_json(self) -> None:
        """The caller's own objects never stop a job."""
        request_ = ImageToVideo("a.png", carry={"set": {1}, "bytes": b"x", "deep": {"a": [1, None]}})
        document = json.loads(document_of(request_))
        assert document["carry"] == {"set": "{1}", "bytes": "b'x'", "deep": {"a": [1, None]}}

    def test_bytes_are_kept_first(self) -> None:
        """A picture does not get into the database by accident."""
        with pytest.raises(TypeError, match="keep"):
            document_of(ImageToVideo(b"picture"))

    def test_a_damaged_document_is_told(self) -> None:
        """It is judged as any request."""
        with pytest.raises(InvalidRequest):
            request_of('{"image": {"kind": "url", "text": "https://x/y"}, "duration": 7}')


class TestClientRequestId:
    """The id that finds a POST again in the usage log."""

    @QUICK
    @given(
        st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=10, max_size=10),
        st.text(min_size=1, max_size=500),
        st.integers(1, 10**9),
    )
    def test_it_is_always_valid(self, journal: str, key: str, attempt: int) -> None:
        """The service drops any other without a word, and the row could not be found again."""
        assert VALID_ID.match(client_request_id(journal, key, attempt))

    @QUICK
    @given(st.text(max_size=20), st.text(max_size=20), st.integers(1, 99), st.integers(1, 99))
    def test_no_two_posts_share_one(self, one: str, other: str, first: int, second: int) -> None:
        """Of two rows, of two attempts, of two journals."""
        assume((one, first) != (other, second))
        assert client_request_id("journal000", one, first) != client_request_id("journal000", other, second)
        assert client_request_id("journal000", one, first) != client_request_id("journal001", one, first)

    def test_it_never_changes(self) -> None:
        """A row whose answer was lost under an older version is still found."""
        assert client_request_id("0123456789", "日本/mona lisa", 3) == "ka1.0123456789.2lw6jcz422of62nwqam7znzd.3"
