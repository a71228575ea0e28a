"""The API without troubles: its calls, its rules, its answers."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from kling_async.simulator import FaultPlan, fingerprint, image_digest
from kling_async.simulator.settings import DAY, MODEL
from kling_async.simulator.stamps import iso_stamp

if TYPE_CHECKING:
    from tests.simulator.conftest import Visit

pytestmark = pytest.mark.looptime

START = 1_800_000_000.0
DATA_URI = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\nrest").decode()


def png(width: int, height: int, padding: int = 0) -> str:
    """Return the data URI of a PNG's first bytes."""
    head = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + width.to_bytes(4) + height.to_bytes(4) + bytes(padding)
    return "data:image/png;base64," + base64.b64encode(head).decode()


# ---------------------------------------------------------------------- submit


@pytest.mark.parametrize("status", [200, 201])
async def test_submit_answer(visit: Visit, status: int) -> None:
    """A submit is answered with id, status, the money held, and the id once more in a header."""
    async with visit(submit_status=status) as visitor:
        reply = await visitor.submit(rid="ka1.x.1")
        assert reply.status == status
        assert reply.json == {
            "id": reply.id,
            "status": "queued",
            "meta": {"usage": {"credits_used": 520_000, "usd_spent": 0.26}},
        }
        assert reply.headers["x-inference-id"] == reply.id
        assert reply.headers["x-client-request-id"] == "ka1.x.1"
        assert reply.headers["x-request-id"]


async def test_no_meta(visit: Visit) -> None:
    """`meta` may be missing."""
    async with visit(meta=False) as visitor:
        assert set((await visitor.submit()).json) == {"id", "status"}


GOOD: list[dict[str, Any]] = [
    {"duration": 10},
    {"duration": "5"},
    {"duration": "10"},
    {"prompt": None},
    {"prompt": "x" * 2_500},
    {"image_url": DATA_URI},
    {"tail_image_url": DATA_URI},
    {"cfg_scale": 0},
    {"cfg_scale": 1.0},
    {"negative_prompt": "blur", "static_mask": "https://images.example/m.png"},
    {"dynamic_masks": [{"mask": DATA_URI, "trajectories": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}]},
    {"camera_control": {"type": "simple"}},
    {"surprise": 1},
]


@pytest.mark.parametrize("fields", GOOD, ids=str)
async def test_accepts(visit: Visit, fields: dict[str, Any]) -> None:
    """What the schema allows is accepted."""
    async with visit() as visitor:
        assert (await visitor.submit(**fields)).status == 200


POINT = {"x": 1, "y": 2}
BAD: list[tuple[dict[str, Any], list[object]]] = [
    ({"model": None}, ["model"]),
    ({"model": "kling-video/v1.6/standard/image-to-video"}, ["model"]),
    ({"image_url": None}, ["image_url"]),
    ({"image_url": 7}, ["image_url"]),
    ({"image_url": base64.b64encode(bytes(60)).decode()}, ["image_url"]),
    ({"image_url": "data:image/png;base64,%%%"}, ["image_url"]),
    ({"image_url": "photo.png"}, ["image_url"]),
    ({"tail_image_url": "data:image/png;base64,%%%"}, ["tail_image_url"]),
    ({"duration": 7}, ["duration"]),
    ({"duration": "5s"}, ["duration"]),
    ({"duration": True}, ["duration"]),
    ({"duration": [5]}, ["duration"]),
    ({"prompt": 5}, ["prompt"]),
    ({"prompt": "x" * 2_501}, ["prompt"]),
    ({"negative_prompt": "x" * 2_501}, ["negative_prompt"]),
    ({"cfg_scale": 1.1}, ["cfg_scale"]),
    ({"cfg_scale": -0.1}, ["cfg_scale"]),
    ({"cfg_scale": "0.5"}, ["cfg_scale"]),
    ({"static_mask": "x"}, ["static_mask"]),
    ({"dynamic_masks": "x"}, ["dynamic_masks"]),
    ({"dynamic_masks": [{"mask": DATA_URI, "trajectories": [POINT] * 2}] * 7}, ["dynamic_masks"]),
    ({"dynamic_masks": [{"trajectories": [POINT] * 2}]}, ["dynamic_masks", 0, "mask"]),
    ({"dynamic_masks": [{"mask": DATA_URI, "trajectories": [POINT]}]}, ["dynamic_masks", 0, "trajectories"]),
    (
        {"dynamic_masks": [{"mask": DATA_URI, "trajectories": [POINT, {"x": 1.5, "y": 0}]}]},
        ["dynamic_masks", 0, "trajectories", 1],
    ),
]


@pytest.mark.parametrize(("fields", "path"), BAD, ids=lambda value: str(value)[:60])
async def test_refuses(visit: Visit, fields: dict[str, Any], path: list[object]) -> None:
    """What breaks the schema gets 400 with an issue that names the field, and makes no job."""
    async with visit() as visitor:
        reply = await visitor.submit(**fields)
        assert reply.status == 400
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert [issue["path"] for issue in reply.json["error"]["data"]] == [path]
        assert not visitor.sim.book.bought()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
async def test_refuses_no_json(visit: Visit, body: bytes) -> None:
    """A body that is no JSON object gets 400."""
    async with visit() as visitor:
        assert (await visitor.api("POST", "/v2/video/generations", data=body)).status == 400


async def test_unknown_fields_refused(visit: Visit) -> None:
    """Unknown fields are refused if so set."""
    async with visit(unknown_fields="refuse") as visitor:
        reply = await visitor.submit(surprise=1)
        assert [issue["path"] for issue in reply.json["error"]["data"]] == [["surprise"]]


async def test_older_envelope(visit: Visit) -> None:
    """The older envelope tells the issues as a list of strings."""
    async with visit(envelopes="older") as visitor:
        reply = await visitor.submit(image_url=None, duration=7)
        assert reply.headers["Content-Type"] == "application/json"
        assert reply.json == {
            "requestId": reply.headers["x-request-id"],
            "statusCode": 400,
            "timestamp": reply.json["timestamp"],
            "path": "/v2/video/generations",
            "message": ["image_url: Required", "duration: Invalid enum value. Expected 5 | 10"],
        }


async def test_problem_envelope(visit: Visit) -> None:
    """The newer envelope has title, status, message, instance, requestId, timestamp and error."""
    async with visit() as visitor:
        value = (await visitor.poll("unknown")).json
        assert set(value) == {"title", "status", "message", "instance", "requestId", "timestamp", "error"}
        assert (value["title"], value["status"], value["message"]) == ("Not Found", 404, "Inference not found")


async def test_mixed_envelopes(visit: Visit) -> None:
    """Both envelopes come in turn, by the seed."""
    async with visit(envelopes="mixed") as visitor:
        replies = [await visitor.poll("unknown") for _ in range(20)]
        assert {"title" in reply.json for reply in replies} == {True, False}


@pytest.mark.parametrize("key", [None, "", "other", "sim-key2"])
async def test_key(visit: Visit, key: str | None) -> None:
    """Without a good key all calls but the price get 401."""
    async with visit() as visitor:
        for call in (visitor.submit(key=key), visitor.poll("x", key=key), visitor.api("GET", "/v2/billing", key=key)):
            assert (await call).status == 401
        assert (await visitor.api("GET", "/v1/models", key=key)).status == 200
        assert not visitor.sim.book.bought()


async def test_limit(visit: Visit) -> None:
    """A submit over the limit on jobs at once gets 429 with 1303."""
    async with visit(limit=2) as visitor:
        replies = [await visitor.submit() for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert "1303" in replies[2].json["message"]
        assert visitor.sim.book.max_running_at_once == 2
        assert visitor.sim.book.refused == {429: 1}


async def test_credit(visit: Visit) -> None:
    """A submit that the balance does not cover gets 403 with the vendor's spelling."""
    async with visit(balance_usd=0.3) as visitor:
        await visitor.bought()
        reply = await visitor.submit()
        assert reply.status == 403
        assert reply.json["error"]["data"] == {"kind": "err_insufficent_credits"}


@pytest.mark.looptime(False)  # kernel buffers take real time, which virtual time does not wait for
async def test_large_image(visit: Visit) -> None:
    """An image of 10 MB is taken, and the book knows its digest."""
    async with visit() as visitor:
        uri = "data:image/jpeg;base64," + base64.b64encode(bytes(10 << 20)).decode()
        await visitor.bought(image_url=uri, tail_image_url=uri)
        assert visitor.sim.book.bought()[0].image_digest == image_digest(uri)


async def test_book(visit: Visit) -> None:
    """The book tells what was bought, for which body and which request id, and when."""
    async with visit() as visitor:
        generation_id = await visitor.bought("cat", rid="row.1", duration=10)
        body = {"model": MODEL, "image_url": "https://images.example/a.png", "prompt": "cat", "duration": 10}
        (purchase,) = visitor.sim.book.bought_for(fingerprint(body))
        assert visitor.sim.book.by_request_id("row.1") == [purchase]
        assert (purchase.generation_id, purchase.duration, purchase.price) == (generation_id, 10, 1_040_000)
        assert purchase.bought_at == pytest.approx(START, abs=5.0)
        assert visitor.sim.book.submits_seen == 1


# ------------------------------------------------------------------------ poll


async def test_way_to_completed(visit: Visit) -> None:
    """A job is queued, goes through every status on the way, and is completed with a link when its time is over."""
    async with visit() as visitor:
        generation_id = await visitor.bought()
        seen = []
        while "video" not in (value := (await visitor.poll(generation_id)).json):
            seen.append(value["status"])
            await asyncio.sleep(5.0)
        assert list(dict.fromkeys(seen)) == ["queued", "waiting", "active", "generating", "processing"]
        assert value["status"] == "completed"
        purchase = visitor.sim.book.bought()[0]
        assert purchase.ended_at is not None
        assert purchase.noticed_at is not None
        assert 0.0 <= purchase.noticed_at - purchase.ended_at <= 6.0
        assert visitor.sim.book.polls_by_id[generation_id] == len(seen) + 1


@pytest.mark.parametrize("style", ["nanoid", "uuid", "decimal"])
async def test_poll_by_any_id(visit: Visit, style: str) -> None:
    """An id of any style finds its job when it is encoded."""
    async with visit(id_style=style) as visitor:
        generation_id = await visitor.bought()
        reply = await visitor.poll(generation_id)
        assert reply.json["id"] == reply.headers["x-inference-id"] == generation_id
        assert not visitor.sim.book.unclean_polls


async def test_poll_unknown(visit: Visit) -> None:
    """An id that no job ever had gets 404, and the book notes it."""
    async with visit() as visitor:
        assert (await visitor.poll("nobody")).status == 404
        assert visitor.sim.book.unclean_polls == ["nobody"]


async def test_poll_without_id(visit: Visit) -> None:
    """A poll without an id gets 400."""
    async with visit() as visitor:
        assert (await visitor.api("GET", "/v2/video/generations")).status == 400


@pytest.mark.parametrize("shape", ["object", "full", "list", "string"])
async def test_video_shapes(visit: Visit, shape: str) -> None:
    """The link comes in every shape seen, and works."""
    async with visit(video=shape) as visitor:
        video = (await visitor.finished())["video"]
        url = video if shape == "string" else video[0] if shape == "list" else video["url"]
        reply = await visitor.fetch(url)
        assert reply.status == 200
        if shape == "full":
            assert video["content_type"] == "video/mp4"
            assert video["file_size"] == len(reply.body)


async def test_video_full_rendered(visit: Visit) -> None:
    """The file size is told rightly for a rendering too, and for a padded one."""
    image = _real_png()
    async with visit(video="full", clips="rendered", clip_bytes=100_000) as visitor:
        video = (await visitor.finished(image_url=image))["video"]
        assert video["file_size"] == len((await visitor.fetch(video["url"])).body) == 100_000


def _real_png() -> str:
    file = io.BytesIO()
    Image.new("RGB", (400, 300), "teal").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


IMAGES = [
    ({"image_url": png(300, 300)}, None),
    ({"image_url": png(299, 400)}, "300px"),
    ({"image_url": png(800, 319)}, "aspect ratio"),
    ({"image_url": png(800, 320)}, None),
    ({"image_url": png(800, 800, 10 << 20)}, "10MB"),
    ({"image_url": "data:image/gif;base64,R0lGODlhAQABAAAAACw="}, "format"),
    ({"image_url": png(400, 400), "tail_image_url": png(900, 300)}, None),
    ({"image_url": png(400, 400), "tail_image_url": png(400, 200)}, "300px"),
    ({"image_url": png(400, 400), "tail_image_url": png(400, 400), "duration": 10}, "duration"),
    ({"image_url": png(400, 400), "tail_image_url": png(400, 400), "static_mask": png(400, 400)}, "exclude"),
    ({"image_url": "https://images.example/a.gif"}, None),
]


@pytest.mark.parametrize(("fields", "flaw"), IMAGES, ids=lambda value: str(value)[:70])
async def test_image_rules(visit: Visit, fields: dict[str, Any], flaw: str | None) -> None:
    """Images that break Kling's rules are accepted, and their jobs fail for free."""
    async with visit(check_images=True) as visitor:
        value = await visitor.finished(**fields)
        assert value["status"] == ("completed" if flaw is None else "error")
        assert flaw is None or flaw in value["error"]["message"]
        assert len(visitor.sim.book.paid()) == (flaw is None)


# ------------------------------------------------------------------- usage log


async def test_log_row(visit: Visit) -> None:
    """A row of the log tells time, status, model, cost, and the three ids."""
    async with visit() as visitor:
        reply = await visitor.submit(rid="row.1")
        page = (await visitor.log()).json
        assert page["pagination"] == {"limit": 50, "offset": 0, "total": 1, "has_more": False}
        assert page["data"] == [
            {
                "created": iso_stamp(visitor.sim.book.bought()[0].bought_at),
                "status": "succeeded",
                "model": MODEL,
                "cost": {"usd": 0.26, "credits": 520_000},
                "request_id": reply.headers["x-request-id"],
                "inference_id": reply.id,
                "client_request_id": "row.1",
            }
        ]


@pytest.mark.parametrize("rid", ["a b", "é".encode().decode("latin-1"), "x" * 129, "a/b", ""])
async def test_bad_request_id_is_dropped(visit: Visit, rid: str) -> None:
    """A request id that breaks the rules is neither echoed nor logged, without a word."""
    async with visit() as visitor:
        reply = await visitor.submit(rid=rid)
        assert reply.status == 200
        assert "x-client-request-id" not in reply.headers
        assert (await visitor.log()).json["data"][0]["client_request_id"] is None
        assert visitor.sim.book.bought()[0].request_id is None


async def test_no_echo(visit: Visit) -> None:
    """If so set, request ids are not kept, while the book still knows them."""
    async with visit(echo_request_id=False) as visitor:
        reply = await visitor.submit(rid="row.1")
        assert "x-client-request-id" not in reply.headers
        assert (await visitor.log()).json["data"][0]["client_request_id"] is None
        assert visitor.sim.book.by_request_id("row.1")


LISTINGS = [
    ("acceptance", [1, 1, 1]),
    ("end", [0, 1, 1]),
    ("late", [0, 0, 1]),
    ("never", [0, 0, 0]),
]


@pytest.mark.parametrize(("listing", "counts"), LISTINGS)
async def test_log_listing(visit: Visit, listing: str, counts: list[int]) -> None:
    """The log lists a job at acceptance, at its end, minutes late, or never."""
    async with visit(log_listing=listing, log_delay=300.0) as visitor:
        await visitor.bought()
        seen = [len((await visitor.log()).json["data"])]
        for seconds in (150.0, 300.0):
            await asyncio.sleep(seconds)
            seen.append(len((await visitor.log()).json["data"]))
        assert seen == counts


async def test_log_failed(visit: Visit) -> None:
    """A job that failed is logged as failed, at cost 0."""
    plan = FaultPlan.of(job={"error_named": 1.0})
    async with visit(plan) as visitor:
        await visitor.finished()
        row = (await visitor.log(period="1h", status="failed")).json["data"][0]
        assert row["cost"] == {"usd": 0.0, "credits": 0}
        assert (await visitor.log(period="1h", status="succeeded")).json["data"] == []


async def test_log_refused(visit: Visit) -> None:
    """Submits without a job are logged as failed, if so set."""
    async with visit(log_refused=True) as visitor:
        await visitor.submit(duration=7, rid="row.1")
        row = (await visitor.log()).json["data"][0]
        assert (row["status"], row["inference_id"], row["client_request_id"]) == ("failed", None, "row.1")


async def test_log_pages(visit: Visit) -> None:
    """Pages come newest first, at most 100 rows each."""
    async with visit(limit=None) as visitor:
        ids = [await visitor.bought() for _ in range(120)]
        first = (await visitor.log(period="1d", limit="100")).json
        second = (await visitor.log(period="1d", limit="100", offset="100")).json
        assert [row["inference_id"] for row in first["data"] + second["data"]] == ids[::-1]
        assert (first["pagination"]["has_more"], second["pagination"]["has_more"]) == (True, False)


async def test_log_window(visit: Visit) -> None:
    """The log is asked by a window of time, or by a period before now."""
    async with visit(limit=None) as visitor:
        await visitor.bought("old")
        await asyncio.sleep(5_400.0)
        now = visitor.sim.now()
        new = await visitor.bought("new")
        period = (await visitor.log(period="1h")).json
        window = (await visitor.log(start=iso_stamp(now - 60.0), end=iso_stamp(now + 60.0))).json
        assert [row["inference_id"] for row in period["data"]] == [new]
        assert window == period
        assert len((await visitor.log(period="2h")).json["data"]) == 2


async def test_log_is_the_keys_own(visit: Visit) -> None:
    """The log lists only requests of the asking key; the limit and the money are shared by all."""
    async with visit(keys=("one", "two"), limit=1) as visitor:
        assert (await visitor.submit(key="one")).status == 200
        assert (await visitor.submit(key="two")).status == 429
        assert len((await visitor.log(key="one")).json["data"]) == 1
        assert len((await visitor.log(key="two")).json["data"]) == 0


BAD_QUERIES = [
    {"limit": "10"},
    {"period": "1w"},
    {"period": "h"},
    {"period": "1d", "start": "2026-01-01"},
    {"start": "2026-01-01T00:00:00Z"},
    {"start": "2026-01-02", "end": "2026-01-01"},
    {"start": "2026-01-01", "end": "2026-04-05"},
    {"start": "x", "end": "y"},
    {"period": "1d", "limit": "101"},
    {"period": "1d", "limit": "0"},
    {"period": "1d", "offset": "-1"},
    {"period": "1d", "status": "queued"},
]


@pytest.mark.parametrize("query", BAD_QUERIES, ids=str)
async def test_log_refuses(visit: Visit, query: dict[str, str]) -> None:
    """A question that breaks the log's rules gets 400."""
    async with visit() as visitor:
        assert (await visitor.log(**query)).status == 400


async def test_log_rate(visit: Visit) -> None:
    """The log answers 200 times a minute."""
    async with visit(log_calls_per_minute=3) as visitor:
        assert [(await visitor.log()).status for _ in range(4)] == [200, 200, 200, 429]
        await asyncio.sleep(61.0)
        assert (await visitor.log()).status == 200


# ------------------------------------------------------- balance, price, others


async def test_balance(visit: Visit) -> None:
    """The balance is what is neither charged nor held."""
    async with visit(balance_usd=10.0) as visitor:
        await visitor.bought()
        reply = await visitor.api("GET", "/v2/billing")
        assert reply.json == {"current_balance": 9.74, "currency": "USD"}


@pytest.mark.parametrize("kind", ["fixed", "variants", "variable"])
async def test_price(visit: Visit, kind: str) -> None:
    """The price comes in each of its kinds, and only if it is asked for."""
    async with visit(price_kind=kind) as visitor:
        path = f"/v1/models?id={MODEL}"
        (model,) = (await visitor.api("GET", f"{path}&include=pricing", key=None)).json["data"]
        assert model["id"] == MODEL
        assert model["pricing"]["kind"] == kind
        if kind == "fixed":
            (unit,) = model["pricing"]["units"]
            assert unit == {"name": "video", "measure": "second", "price": 0.052, "per": 1}
        assert "pricing" not in (await visitor.api("GET", path)).json["data"][0]
        assert (await visitor.api("GET", "/v1/models?id=other")).json["data"] == []


async def test_openapi(visit: Visit) -> None:
    """The OpenAPI document describes all five calls, and every reference in it leads somewhere."""
    async with visit() as visitor:
        reply = await visitor.api("GET", "/openapi.json", key=None)
        document = reply.json
        calls = [name for path in document["paths"].values() for name in path]
        assert (document["openapi"], sorted(calls)) == ("3.1.0", ["get", "get", "get", "get", "post"])
        for name in _references(document):
            assert name in document["components"]["schemas"]


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"].rsplit("/", 1)[1]] if "$ref" in value else []
        return own + [name for part in value.values() for name in _references(part)]
    return [name for part in value for name in _references(part)] if isinstance(value, list) else []


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("PUT", "/v2/video/generations"), ("GET", "/_sim/book")])
async def test_elsewhere(visit: Visit, method: str, path: str) -> None:
    """There is nothing else, and no look into the book unless it was asked for."""
    async with visit() as visitor:
        assert (await visitor.api(method, path)).status == 404


async def test_admin(visit: Visit) -> None:
    """With `admin`, another process can read the book."""
    async with visit(admin=True) as visitor:
        generation_id = await visitor.bought(rid="row.1")
        book = (await visitor.api("GET", "/_sim/book", key=None)).json
        assert book["purchases"][0]["generation_id"] == generation_id
        assert book["purchases"][0]["request_id"] == "row.1"
        assert book["calls"] == {"submit": 1}


async def test_latency(visit: Visit) -> None:
    """Answers come after the latency, on the loop's clock; the effect comes at once."""
    async with visit(latency=5.0, latency_jitter=2.0) as visitor:
        before = visitor.sim.now()
        await visitor.bought()
        assert 5.0 <= visitor.sim.now() - before < 8.0
        assert visitor.sim.book.bought()[0].bought_at - before < 1.0


async def test_days_pass(visit: Visit) -> None:
    """Dates on answers follow the loop's clock, virtual or not."""
    async with visit() as visitor:
        first = (await visitor.poll("x")).headers["Date"]
        await asyncio.sleep(2 * DAY)
        second = (await visitor.poll("x")).headers["Date"]
        assert (first[:16], second[:16]) == ("Fri, 15 Jan 2027", "Sun, 17 Jan 2027")
