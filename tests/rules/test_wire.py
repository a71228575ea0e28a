"""The two calls of the service: what goes out, and how each answer is read."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.errors import (
    ApiError,
    AuthenticationFailed,
    InvalidRequest,
    KlingError,
    NotFound,
    OutOfCredit,
    ProtocolViolation,
    RateLimited,
    ServerTrouble,
)
from kling_async.rules.wire import SizedImage, decode_poll, decode_submit, encode_poll, encode_submit, media_fields
from kling_async.types.exchange import HttpCall, HttpReply
from kling_async.types.generation import Generation, GenerationStatus, RemoteVideo, Usage
from kling_async.types.image import ImageKind, ImageState
from kling_async.types.request import ImageToVideo

QUICK = settings(deadline=None, max_examples=80)
URL = "https://example.com/mona.jpg?w=1&h=2"
VIDEO = "https://cdn.aimlapi.com/a/b.mp4?cacheKey=k1&ksSecret=s1&ksTime=6996dc99"
CRID = "ka1.0123456789.abcdefghijklmnopqrstuvwx.1"
IDS = [
    "nJ8XkL0aPq_-rStUvWxYz",
    "-J8XkL0aPq_-rStUvWxYz",
    "8f14e45f-ceea-467f-a8f6-d3fa0b3f3f6a:kling-video/v1/standard/image-to-video",
    "123456789012345678",
    "a b+c&d=e%20#?f/日",
]


def reply(status: int, document: object = None, *, body: bytes | None = None, **headers: str) -> HttpReply:
    content = body if body is not None else json.dumps(document).encode()
    return HttpReply(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


def encoded(request: ImageToVideo, *, mime: str = "image/png") -> HttpCall:
    sized = {
        name: SizedImage(mime, ImageState(len(source.content)))
        for name, source in request.images
        if source.kind is not ImageKind.URL
    }
    return encode_submit(request, sized, client_request_id=CRID, timeout=180.0)


def joined(call: HttpCall) -> bytes:
    """Return the body as the transport sends it."""
    return b"".join(part if isinstance(part, bytes) else base64.b64encode(part.source.content) for part in call.body)


def sent(request: ImageToVideo, **options: Any) -> Any:
    """Return the JSON that goes out, each name once."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    return json.loads(joined(encoded(request, **options)), object_pairs_hook=once)


def submitted(answer: HttpReply) -> Generation:
    return decode_submit(answer, client_request_id=CRID)


def polled(document: object, *, generation_id: str = "g-1", status: int = 200, **headers: Any) -> Generation:
    return decode_poll(reply(status, document, **headers), generation_id=generation_id)


class TestSubmit:
    """What goes out to buy a video."""

    def test_the_least_that_is_sent(self) -> None:
        """Absent options are absent, not null; the duration is an integer."""
        assert sent(ImageToVideo(URL)) == {
            "model": "kling-video/v1/standard/image-to-video",
            "image_url": URL,
            "duration": 5,
        }
        assert b'"duration":5' in joined(encoded(ImageToVideo(URL, duration="5")))

    def test_every_option_has_the_service_s_name(self) -> None:
        """All of them together, masks with their trajectories, and what the caller adds."""
        request = ImageToVideo(
            b"one",
            'Ein Ballon 🎈 über 日本 "steigt"\n\u2028',
            tail_image=b"two!",
            duration=10,
            negative_prompt="Regen\\Schnee",
            cfg_scale=0.25,
            static_mask="https://example.com/static.png",
            dynamic_masks=[
                {"mask": b"three", "trajectories": [{"x": 1, "y": 2}, {"x": 3, "y": -4}]},
                {"mask": "https://example.com/m.png", "trajectories": [{"x": 5, "y": 6}, {"x": 7, "y": 8}]},
            ],
            extra={"camera_control": {"type": "simple", "config": {"zoom": 1.5}}, "seed": 7, "flag": False},
            key="mine",
            carry={"label": "private"},
        )
        assert sent(request) == {
            "model": "kling-video/v1/standard/image-to-video",
            "image_url": "data:image/png;base64," + base64.b64encode(b"one").decode(),
            "prompt": 'Ein Ballon 🎈 über 日本 "steigt"\n\u2028',
            "tail_image_url": "data:image/png;base64," + base64.b64encode(b"two!").decode(),
            "duration": 10,
            "negative_prompt": "Regen\\Schnee",
            "cfg_scale": 0.25,
            "static_mask": "https://example.com/static.png",
            "dynamic_masks": [
                {
                    "mask": "data:image/png;base64," + base64.b64encode(b"three").decode(),
                    "trajectories": [{"x": 1, "y": 2}, {"x": 3, "y": -4}],
                },
                {"mask": "https://example.com/m.png", "trajectories": [{"x": 5, "y": 6}, {"x": 7, "y": 8}]},
            ],
            "camera_control": {"type": "simple", "config": {"zoom": 1.5}},
            "seed": 7,
            "flag": False,
        }

    def test_what_is_the_caller_s_own_never_leaves(self) -> None:
        """Neither key nor carried data are in the body or the headers."""
        call = encoded(ImageToVideo(URL, key="PRIVATE-key", carry={"PRIVATE-name": "PRIVATE-value"}))
        assert b"PRIVATE" not in joined(call)
        assert "PRIVATE" not in str(call.headers)

    def test_a_local_image_is_a_data_uri_of_its_type(self) -> None:
        """The service's schema wants a URI; bare base64 is expected to fail."""
        document = sent(ImageToVideo(b"\xff\xd8\xff picture"), mime="image/jpeg")
        head, _, payload = document["image_url"].partition(",")
        assert head == "data:image/jpeg;base64"
        assert base64.b64decode(payload, validate=True) == b"\xff\xd8\xff picture"

    def test_an_image_never_stands_in_memory_twice(self) -> None:
        """The body is text and places for images, which are read while they are sent."""
        call = encoded(ImageToVideo(b"x" * 100_000))
        assert sum(len(part) for part in call.body if isinstance(part, bytes)) < 500
        assert [part.state.size for part in call.body if not isinstance(part, bytes)] == [100_000]

    def test_text_goes_out_as_utf_8(self) -> None:
        """Not as escapes, which make it up to six times as long."""
        assert "日本🎈".encode() in joined(encoded(ImageToVideo(URL, "日本🎈")))

    @QUICK
    @given(
        image=st.one_of(st.just(URL), st.binary(min_size=1, max_size=20)),
        tail=st.one_of(st.none(), st.just(URL), st.binary(min_size=1, max_size=20)),
        static=st.one_of(st.none(), st.just(URL), st.binary(min_size=1, max_size=20)),
        masks=st.lists(st.one_of(st.just(URL), st.binary(min_size=1, max_size=20)), max_size=6),
        prompt=st.one_of(st.none(), st.text()),
        extra=st.dictionaries(
            st.text(max_size=5).map("x{}".format),
            st.one_of(st.integers(), st.text(), st.lists(st.booleans())),
            max_size=3,
        ),
    )
    def test_any_body_is_the_json_it_should_be(
        self,
        *,
        image: str | bytes,
        tail: str | bytes | None,
        static: str | bytes | None,
        masks: list[str | bytes],
        prompt: str | None,
        extra: dict[str, object],
    ) -> None:
        """Put together it is valid JSON, equal to what is meant, and as long as was announced."""

        def text(value: str | bytes) -> str:
            return value if isinstance(value, str) else f"data:image/png;base64,{base64.b64encode(value).decode()}"

        points = [{"x": 1, "y": 2}, {"x": 3, "y": 4}]
        request = ImageToVideo(
            image,
            prompt,
            tail_image=tail,
            static_mask=static,
            dynamic_masks=[{"mask": mask, "trajectories": points} for mask in masks],
            extra=extra,
        )
        meant: dict[str, object] = {"model": request.model, "image_url": text(image), "duration": 5, **extra}
        meant |= {} if prompt is None else {"prompt": prompt}
        meant |= {} if tail is None else {"tail_image_url": text(tail)}
        meant |= {} if static is None else {"static_mask": text(static)}
        if masks:
            meant["dynamic_masks"] = [{"mask": text(mask), "trajectories": points} for mask in masks]
        assert sent(request) == meant
        assert encoded(request).content_length == len(joined(encoded(request)))

    def test_the_call_itself(self) -> None:
        """A POST of JSON over a connection of its own, with the id that finds it again."""
        call = encoded(ImageToVideo(URL))
        assert (call.method, call.path, call.query, call.timeout) == ("POST", "/v2/video/generations", (), 180.0)
        assert dict(call.headers) == {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "X-Client-Request-Id": CRID,
        }
        assert call.fresh_connection

    def test_extra_that_became_unwritable_is_told(self) -> None:
        """A mapping can be changed behind the request's back; it is no reason for another error."""
        request = ImageToVideo(URL, extra={"seed": 1})
        request.extra["seed"] = object()  # type: ignore[index]
        with pytest.raises(InvalidRequest) as caught:
            encoded(request)
        assert caught.value.issues[0].field == "seed"

    def test_an_image_of_unknown_size_is_told(self) -> None:
        """Without it no length can be announced."""
        with pytest.raises(InvalidRequest, match="image_url"):
            encode_submit(ImageToVideo(b"x"), {}, client_request_id=CRID, timeout=1.0)

    def test_the_images_to_be_sized_are_named(self) -> None:
        """All but URLs, which nobody here can look at."""
        request = ImageToVideo(URL, tail_image="t.png", static_mask=b"x")
        assert list(media_fields(request)) == ["tail_image", "static_mask"]


class TestAccepted:
    """Answers that mean: bought."""

    @pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 226, 299])
    def test_any_2xx_accepts(self, status: int) -> None:
        """It was 201 until late 2025, and 200 since."""
        assert submitted(reply(status, {"id": "g-1", "status": "queued"})).id == "g-1"

    def test_the_whole_answer_is_read(self) -> None:
        """The id, the word, the hold, the ids of the call."""
        document = {
            "id": "nJ8X",
            "status": "queued",
            "meta": {"usage": {"credits_used": 1040000, "usd_spent": 0.52}},
        }
        assert submitted(reply(200, document, x_request_id="r-1", x_client_request_id=CRID)) == Generation(
            "nJ8X",
            GenerationStatus.RUNNING,
            "queued",
            usage=Usage(1_040_000, 0.52),
            request_id="r-1",
            client_request_id=CRID,
            echoed=True,
        )

    @pytest.mark.parametrize("value", IDS)
    def test_an_id_is_opaque(self, value: str) -> None:
        """Not a letter of it is changed, whatever stands in it."""
        assert submitted(reply(200, {"id": value})).id == value
        assert submitted(reply(200, {"generation_id": value})).id == value
        assert submitted(reply(200, body=b"", x_inference_id=value)).id == value

    @pytest.mark.parametrize("number", [0, 123456789012345678901234567890])
    def test_an_id_may_be_a_number(self, number: int) -> None:
        """It becomes the decimal string that it is."""
        assert submitted(reply(200, {"id": number})).id == str(number)

    @pytest.mark.parametrize("junk", [None, "", "  ", True, [], {}, 1.5])
    def test_generation_id_stands_in_for_id(self, junk: object) -> None:
        """Other models answer it in place of `id`; an id that is none does not hide it."""
        assert submitted(reply(200, {"id": junk, "generation_id": "g-2"})).id == "g-2"

    def test_the_body_goes_before_the_header(self) -> None:
        """Where both name an id."""
        assert submitted(reply(200, {"id": "body"}, x_inference_id="header")).id == "body"

    @pytest.mark.parametrize(
        "body", [b"", b"<html>", b"[]", b'"x"', b"null", b"{}", b'{"id":""}', b"\xff\xfe\xfa", b'{"id']
    )
    @pytest.mark.parametrize("status", [200, 201, 202, 204])
    def test_an_unreadable_2xx_that_names_the_generation_is_accepted(self, status: int, body: bytes) -> None:
        """What was bought is watched under the header's id."""
        found = submitted(reply(status, body=body, x_inference_id="g-7", x_request_id="r-7"))
        assert (found.id, found.status, found.client_request_id) == ("g-7", GenerationStatus.UNKNOWN, CRID)
        assert found.request_id == "r-7"

    @pytest.mark.parametrize("body", [b"", b"<html>", b'{"statusCode":503,"message":"busy"}', b"[]"])
    @pytest.mark.parametrize("status", [500, 502, 503, 504, 524, 599])
    def test_a_5xx_that_names_the_generation_is_accepted(self, status: int, body: bytes) -> None:
        """It failed after the job was made."""
        found = submitted(reply(status, body=body, x_inference_id="g-7"))
        assert (found.id, found.status) == ("g-7", GenerationStatus.UNKNOWN)

    @pytest.mark.parametrize(("echo", "echoed"), [(CRID, True), (None, False), ("other", False), (CRID.upper(), False)])
    def test_the_echo_of_our_id_is_noted(self, *, echo: str | None, echoed: bool) -> None:
        """Without it lost answers cannot be found again; what failed on its way says nothing of that."""
        headers: dict[str, Any] = {} if echo is None else {"x_client_request_id": echo}
        assert submitted(reply(200, {"id": "g"}, **headers)).echoed is echoed
        assert submitted(reply(500, body=b"", x_inference_id="g", **headers)).echoed is None

    @pytest.mark.parametrize(
        ("meta", "usage"),
        [
            (None, Usage()),
            ([], Usage()),
            ({}, Usage()),
            ({"tokens_used": 5}, Usage()),
            ({"usage": {"tokens_used": 5}}, Usage()),
            ({"usage": {"credits_used": 5}}, Usage(5, None)),
            ({"usage": {"credits_used": 5.4}}, Usage(5, None)),
            ({"usage": {"usd_spent": 0.52}}, Usage(1_040_000, 0.52)),
            ({"usage": {"usd_spent": 0}}, Usage(0, 0.0)),
            ({"usage": {"credits_used": "5", "usd_spent": True}}, Usage()),
            ({"usage": {"credits_used": -1}}, Usage()),
            ({"usage": {"credits_used": float("nan"), "usd_spent": float("inf")}}, Usage()),
            ({"usage": {"credits_used": 10**400, "usd_spent": 10**400}}, Usage()),
            ({"usage": {"usd_spent": 2**52}}, Usage(None, 2.0**52)),
        ],
    )
    def test_money_is_read_where_it_is_told(self, meta: object, usage: Usage) -> None:
        """As whole credits; what is no amount is left out."""
        assert submitted(reply(200, {"id": "g", "meta": meta})).usage == usage

    def test_a_job_that_failed_at_once_is_a_generation_too(self) -> None:
        """It was accepted, so it has an id and a reason."""
        found = submitted(reply(200, {"id": "g", "status": "error", "error": "no"}))
        assert (found.status, found.failure) == (GenerationStatus.FAILED, "no")


class TestNotAccepted:
    """Answers to a submit that are errors."""

    @pytest.mark.parametrize(
        "body",
        [b"", b"<html>", b"[]", b"null", b"{}", b'{"id":""}', b'{"id":null,"status":"queued"}', b'{"id":"\\ud800"}'],
    )
    @pytest.mark.parametrize("status", [200, 201, 204])
    def test_a_2xx_without_an_id_is_unreadable(self, status: int, body: bytes) -> None:
        """Something may have been bought: the error says 2xx, and the call."""
        with pytest.raises(ProtocolViolation) as caught:
            submitted(reply(status, body=body, x_request_id="r-1"))
        assert (caught.value.status, caught.value.request_id) == (status, "r-1")
        assert len(caught.value.excerpt) <= 200

    @pytest.mark.parametrize("header", ["", "  "])
    def test_an_empty_header_names_nothing(self, header: str) -> None:
        """Neither a 2xx nor a 5xx is accepted by it."""
        with pytest.raises(ProtocolViolation):
            submitted(reply(200, body=b"", x_inference_id=header))
        with pytest.raises(ServerTrouble):
            submitted(reply(500, body=b"", x_inference_id=header))

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (300, ProtocolViolation),
            (302, ProtocolViolation),
            (307, ProtocolViolation),
            (400, InvalidRequest),
            (401, AuthenticationFailed),
            (402, OutOfCredit),
            (404, NotFound),
            (405, ApiError),
            (409, ApiError),
            (413, ApiError),
            (422, ApiError),
            (429, RateLimited),
        ],
    )
    def test_a_refusal_is_one_whatever_its_headers_say(self, status: int, kind: type[KlingError]) -> None:
        """Only a 2xx or a 5xx can be an accepted job."""
        with pytest.raises(KlingError) as caught:
            submitted(reply(status, {"statusCode": status, "message": "no"}, x_inference_id="g-7"))
        assert type(caught.value) is kind

    @pytest.mark.parametrize("status", [408, 500, 502, 504, 524, 599])
    def test_a_5xx_proves_nothing(self, status: int) -> None:
        """Whatever its body says, a job may have been made."""
        for body in (b"", b"<html>", json.dumps({"statusCode": status, "message": "no", "path": "/"}).encode()):
            with pytest.raises(ServerTrouble) as caught:
                submitted(reply(status, body=body))
            assert not caught.value.refused


class TestPoll:
    """Asking for a generation, and the answer."""

    @pytest.mark.parametrize("value", IDS)
    def test_the_id_is_one_value_of_the_query(self, value: str) -> None:
        """Never part of the path, and whole again after encoding."""
        call = encode_poll(value, timeout=30.0)
        assert (call.method, call.path, call.body) == ("GET", "/v2/video/generations", ())
        assert call.query == (("generation_id", value),)
        assert parse_qsl(urlencode(call.query)) == [("generation_id", value)]

    def test_a_poll_carries_no_id_of_ours(self) -> None:
        """Only a POST does: it would stand in the usage log a second time."""
        assert {name.lower() for name, _ in encode_poll("g", timeout=1.0).headers} == {"accept"}

    @pytest.mark.parametrize("value", IDS)
    def test_a_generation_keeps_the_id_it_was_asked_by(self, value: str) -> None:
        """Whatever the answer calls it: `""` has been seen."""
        for answered in ("", "other", None, 5):
            assert polled({"id": answered, "status": "queued"}, generation_id=value).id == value

    @pytest.mark.parametrize("word", ["queued", "generating", "waiting", "active", "processing"])
    @pytest.mark.parametrize("spell", [str, str.upper, str.title, " {} ".format])
    def test_a_word_for_running_means_ask_again(self, word: str, spell: Any) -> None:
        """In whatever spelling, and whatever stands beside it."""
        found = polled({"status": spell(word), "video": {"url": VIDEO}, "error": "x"})
        assert found.status is GenerationStatus.RUNNING
        assert found.video is None
        assert found.failure is None

    @pytest.mark.parametrize(
        "word", ["unknown", "", "finished", "done", "success", "ready", "complete", "0", None, 5, [], True]
    )
    def test_a_word_nobody_knows_means_ask_again(self, word: object) -> None:
        """Never finished, and never failed: that is how others lose what was paid for."""
        found = polled({"id": "", "status": word, "video": {"url": VIDEO}, "error": {"message": "not found"}})
        assert found.status is GenerationStatus.UNKNOWN
        assert found.video is None
        assert found.raw_status == (word if isinstance(word, str) else "")

    @pytest.mark.parametrize("word", ["completed", "succeeded", "COMPLETED", "Succeeded"])
    def test_finished_has_a_link(self, word: str) -> None:
        """And all that the service tells of the file."""
        found = polled(
            {
                "status": word,
                "video": {"url": VIDEO, "content_type": "video/mp4", "file_name": "b.mp4", "file_size": 123},
                "meta": {"usage": {"credits_used": 600_000}},
            },
            x_request_id="r-2",
        )
        assert found == Generation(
            "g-1",
            GenerationStatus.COMPLETED,
            word,
            RemoteVideo(VIDEO, "video/mp4", "b.mp4", 123),
            usage=Usage(600_000),
            request_id="r-2",
        )

    @pytest.mark.parametrize(
        "video",
        [
            {"url": VIDEO},
            VIDEO,
            f" {VIDEO}\n",
            [VIDEO],
            [{"url": VIDEO}],
            [{"url": VIDEO}, {"url": "https://cdn.aimlapi.com/second.mp4"}],
            [None, 5, "", "junk", {}, {"url": None}, {"url": "ftp://x/y"}, [], {"url": VIDEO}],
            {"url": VIDEO, "file_size": "big", "content_type": 5, "file_name": ""},
            {"url": VIDEO, "file_size": -1},
            {"url": VIDEO, "file_size": True},
            {"url": VIDEO, "file_size": 10**400},
        ],
    )
    def test_a_link_is_found_in_every_shape(self, video: object) -> None:
        """An object, a list, a string, a list of objects with junk before it; facts that are none are left out."""
        assert polled({"status": "completed", "video": video}).video == RemoteVideo(VIDEO)

    @pytest.mark.parametrize(
        "url", ["http://127.0.0.1:8080/v/1.mp4", "HTTPS://CDN.example/x.mp4", "https://bücher.example/日.mp4"]
    )
    def test_a_link_is_kept_as_it_is(self, url: str) -> None:
        """Whether it may be followed is not decided here."""
        found = polled({"status": "completed", "video": {"url": url}}).video
        assert found is not None
        assert found.url == url

    @pytest.mark.parametrize(
        "video",
        [
            None,
            "",
            "b.mp4",
            "/a/b.mp4",
            "ftp://x/y.mp4",
            "https://",
            "https:///b.mp4",
            "https://a b/c.mp4",
            "https://[bad/c.mp4",
            "https://h:99999999/c.mp4",
            "https://cdn/\ud800.mp4",
            "data:video/mp4;base64,AAAA",
            {},
            {"url": ""},
            {"url": {"url": VIDEO}},
            [],
            [[]],
            [None, {}],
            5,
            True,
        ],
    )
    def test_finished_without_a_usable_link_is_not_finished(self, video: object) -> None:
        """It is asked again: the link may yet come."""
        found = polled({"status": "completed", "video": video})
        assert (found.status, found.raw_status, found.video) == (GenerationStatus.UNKNOWN, "completed", None)

    @pytest.mark.parametrize("word", ["error", "failed", "cancelled", "canceled", "expired", "ERROR", "Failed"])
    def test_a_failed_one_says_why(self, word: str) -> None:
        """And has no video, whatever stands there."""
        found = polled({"status": word, "error": {"name": "Error", "message": "no face"}, "video": {"url": VIDEO}})
        assert (found.status, found.failure, found.video) == (GenerationStatus.FAILED, "no face", None)

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (302, ProtocolViolation),
            (400, InvalidRequest),
            (401, AuthenticationFailed),
            (404, NotFound),
            (418, ApiError),
            (429, RateLimited),
            (500, ServerTrouble),
            (503, ServerTrouble),
            (524, ServerTrouble),
        ],
    )
    def test_an_error_tells_the_generation(self, status: int, kind: type[KlingError]) -> None:
        """Whoever catches it can go on with the id; a header does not make a 5xx an answer here."""
        with pytest.raises(KlingError) as caught:
            polled({"statusCode": status, "message": "no"}, status=status, x_inference_id="g-9", x_request_id="r-9")
        assert type(caught.value) is kind
        assert (caught.value.generation_id, caught.value.request_id) == ("g-1", "r-9")

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"5", b"\xff", b'{"status":"completed"', b"[" * 100_000])
    def test_an_unreadable_answer_tells_the_generation(self, body: bytes) -> None:
        """It says nothing of the generation itself."""
        with pytest.raises(ProtocolViolation) as caught:
            decode_poll(reply(200, body=body), generation_id="g-1")
        assert caught.value.generation_id == "g-1"

    def test_the_secret_of_a_link_is_in_no_repr(self) -> None:
        """A generation that is logged tells the host and the file, not the query."""
        found = polled({"status": "completed", "video": {"url": VIDEO}})
        assert "ksSecret" not in repr(found)
        assert "https://cdn.aimlapi.com/a/b.mp4" in repr(found)
