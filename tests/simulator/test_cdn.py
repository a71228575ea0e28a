"""The CDN: links, ranges, and every trouble of a download, seen through a real socket."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from kling_async.simulator import TROUBLES, Fault, FaultPlan
from kling_async.simulator.cdn import read_range
from kling_async.simulator.settings import DAY

if TYPE_CHECKING:
    from tests.simulator.conftest import Visit, Visitor

pytestmark = pytest.mark.looptime


async def finished_url(visitor: Visitor, prompt: str = "p") -> tuple[str, bytes]:
    """Buy a generation; return its link and the file that lies there."""
    value = await visitor.finished(prompt)
    return value["video"]["url"], await visitor.sim.served_bytes(value["id"])


# ------------------------------------------------------------------------ good


async def test_download(visit: Visit) -> None:
    """A video comes whole, under its length, type and ETag, from another port than the API's."""
    async with visit() as visitor:
        url, data = await finished_url(visitor)
        reply = await visitor.fetch(url)
        assert (reply.status, reply.body) == (200, data)
        assert reply.headers["Content-Length"] == str(len(data))
        assert reply.headers["Content-Type"] == "video/mp4"
        assert reply.headers["Accept-Ranges"] == "bytes"
        assert reply.headers["ETag"].startswith('"')
        assert URL(url).port != URL(visitor.sim.base_url).port


async def test_sha256(visit: Visit) -> None:
    """The simulator tells the digest of what it serves, and no two generations have the same."""
    async with visit(limit=None) as visitor:
        ids = [await visitor.bought() for _ in range(20)]
        digests = [await visitor.sim.served_sha256(one) for one in ids]
        assert len(set(digests)) == 20
        assert digests[0] == sha256(await visitor.sim.served_bytes(ids[0])).hexdigest()


async def test_head(visit: Visit) -> None:
    """HEAD tells length and ETag, and nothing more."""
    async with visit() as visitor:
        url, data = await finished_url(visitor)
        reply = await visitor.send("HEAD", URL(url, encoded=True))
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["Content-Length"] == str(len(data))
        assert reply.headers["ETag"]


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("bytes=0-99", (0, 100)),
        ("bytes=1000-", (1_000, None)),
        ("bytes=-500", (-500, None)),
        ("bytes=5-999999999", (5, None)),
    ],
)
async def test_range(visit: Visit, asked: str, span: tuple[int, int | None]) -> None:
    """A range gets 206 with those bytes."""
    async with visit() as visitor:
        url, data = await finished_url(visitor)
        reply = await visitor.fetch(url, headers={"Range": asked})
        part = data[slice(*span)]
        first = data.index(part)
        assert (reply.status, reply.body) == (206, part)
        assert reply.headers["Content-Range"] == f"bytes {first}-{first + len(part) - 1}/{len(data)}"


async def test_range_beyond(visit: Visit) -> None:
    """A range behind the end gets 416 with the length."""
    async with visit() as visitor:
        url, data = await finished_url(visitor)
        reply = await visitor.fetch(url, headers={"Range": f"bytes={len(data)}-"})
        assert (reply.status, reply.headers["Content-Range"]) == (416, f"bytes */{len(data)}")


async def test_if_range(visit: Visit) -> None:
    """A range is given only of the edition that the client knows; else everything comes."""
    async with visit() as visitor:
        url, data = await finished_url(visitor)
        etag = (await visitor.fetch(url)).headers["ETag"]
        same = await visitor.fetch(url, headers={"Range": "bytes=10-", "If-Range": etag})
        other = await visitor.fetch(url, headers={"Range": "bytes=10-", "If-Range": '"other"'})
        assert (same.status, same.body) == (206, data[10:])
        assert (other.status, other.body) == (200, data)


async def test_if_none_match(visit: Visit) -> None:
    """A client that has this edition gets 304."""
    async with visit() as visitor:
        url, _ = await finished_url(visitor)
        etag = (await visitor.fetch(url)).headers["ETag"]
        assert (await visitor.fetch(url, headers={"If-None-Match": etag})).status == 304


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes=0-0", range(1)),
        ("bytes=3-1", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("items=0-1", None),
        ("bytes=-0", range(10, 10)),
        ("bytes=-99", range(10)),
        ("bytes=10-", range(10, 10)),
    ],
)
def test_read_range(text: str, expected: range | None) -> None:
    """Ranges are read as HTTP says; what is no single range of bytes is ignored."""
    assert read_range(text, 10) == expected


async def test_link_tells_its_expiry(visit: Visit) -> None:
    """`ksTime` is the hexadecimal Unix time at which the link ends: so long after the job did."""
    async with visit(link_life=DAY) as visitor:
        url, _ = await finished_url(visitor)
        ended_at = visitor.sim.book.bought()[0].ended_at
        assert ended_at is not None
        assert int(URL(url).query["ksTime"], 16) == pytest.approx(ended_at + DAY, abs=1.0)
        assert set(URL(url).query) == {"cacheKey", "ksSecret", "ksTime"}


async def test_link_expires(visit: Visit) -> None:
    """An expired link gets 403 with HTML; the next poll gives a fresh one, and the file is the same."""
    async with visit(link_life=600.0) as visitor:
        value = await visitor.finished()
        old, data = value["video"]["url"], await visitor.sim.served_bytes(value["id"])
        assert (await visitor.poll(value["id"])).json == value
        await _later(visitor, 700.0)
        refused = await visitor.fetch(old)
        assert (refused.status, refused.headers["Content-Type"][:9]) == (403, "text/html")
        fresh = (await visitor.poll(value["id"])).json["video"]["url"]
        assert fresh != old
        assert (await visitor.fetch(fresh)).body == data


async def _later(visitor: Visitor, seconds: float) -> None:
    await asyncio.sleep(seconds)
    visitor.sim.world.advance(visitor.sim.now())


@pytest.mark.parametrize("change", [{"ksSecret": "0"}, {"ksTime": "ffffffff"}, {"cacheKey": "1"}, {"ksTime": "x"}])
async def test_forged_link(visit: Visit, change: dict[str, str]) -> None:
    """A link is good only as it was written."""
    async with visit() as visitor:
        url, _ = await finished_url(visitor)
        assert (await visitor.fetch(str(URL(url).update_query(change)))).status == 403
        assert (await visitor.fetch(str(URL(url).with_query(None)))).status == 403


async def test_unknown_file(visit: Visit) -> None:
    """A file that never was gets 404."""
    async with visit() as visitor:
        assert (await visitor.fetch(f"{visitor.sim.cdn_url}/generations/x.mp4")).status == 404


async def test_link_hides_the_id(visit: Visit) -> None:
    """The CDN does not learn the generation id."""
    async with visit() as visitor:
        value = await visitor.finished()
        assert value["id"] not in value["video"]["url"]


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer sim-key"}, {"Authorization": "x"}, {"X-Key": "sim-key"}])
async def test_key_leaks_are_noted(visit: Visit, headers: dict[str, str]) -> None:
    """The book notes each request to the CDN that carries the key, or an Authorization header at all."""
    async with visit() as visitor:
        url, _ = await finished_url(visitor)
        await visitor.fetch(url)
        assert not visitor.sim.book.key_sent_to_cdn
        await visitor.fetch(url, headers=headers)
        assert visitor.sim.book.key_leaks == [f"GET {URL(url).path}"]
        assert visitor.sim.book.downloads_seen == 2


# -------------------------------------------------------------------- troubles

# kind: (status, what comes: all, half, none or other; whether the client sees a failure)
SEEN: dict[str, tuple[int, str, bool]] = {
    "refused": (0, "none", True),
    "stalled": (0, "none", True),
    "stalled_midway": (200, "half", True),
    "cut": (200, "half", True),
    "closed": (200, "half", True),
    "wrong_length": (200, "all", True),
    "truncated": (200, "half", False),
    "no_length": (200, "all", False),
    "garbage": (200, "other", False),
    "damaged": (200, "other", False),
    "html": (200, "other", False),
    "html_video": (200, "other", False),
    "expired": (403, "other", False),
    "403": (403, "other", False),
    "404": (404, "other", False),
    "410": (410, "other", False),
    "429_seconds": (429, "other", False),
    "500": (500, "other", False),
    "502": (502, "other", False),
    "503": (503, "other", False),
    "slow": (200, "all", False),
    "late": (200, "all", False),
    "range_ignored": (200, "all", False),
    "etag_changed": (200, "other", False),
    "redirected": (302, "other", False),
}


@pytest.mark.parametrize("kind", TROUBLES["download"])
async def test_trouble(visit: Visit, kind: str) -> None:
    """A trouble of a download is seen as foreseen; the job and its money stay as they are."""
    status, comes, failed = SEEN[kind]
    async with visit(FaultPlan.of(Fault("download", kind, at=(1,)))) as visitor:
        url, data = await finished_url(visitor)
        reply = await visitor.fetch(url)
        assert (reply.status, reply.failure is not None) == (status, failed)
        expected = {"all": data, "half": data[: len(data) // 2], "none": b""}
        if comes == "other":
            assert reply.body != data
        else:
            assert reply.body == expected[comes]
        assert visitor.sim.book.troubles == {("download", kind): 1}
        assert visitor.sim.book.bought()[0].state == "charged"


def test_all_are_seen() -> None:
    """The table above holds every trouble of downloads."""
    assert set(SEEN) == set(TROUBLES["download"])


@pytest.mark.parametrize(
    ("kind", "announced"), [("cut", 0), ("closed", 0), ("stalled_midway", 0), ("wrong_length", 1_000), ("garbage", 0)]
)
async def test_announced_length(visit: Visit, kind: str, announced: int) -> None:
    """A body that is cut was announced in full; `wrong_length` announces more than there is."""
    async with visit(FaultPlan.of(Fault("download", kind))) as visitor:
        url, data = await finished_url(visitor)
        assert int((await visitor.fetch(url)).headers["Content-Length"]) == len(data) + announced


async def test_truncated_is_consistent(visit: Visit) -> None:
    """`truncated` cannot be told by its length."""
    async with visit(FaultPlan.of(Fault("download", "truncated"))) as visitor:
        url, data = await finished_url(visitor)
        reply = await visitor.fetch(url)
        assert int(reply.headers["Content-Length"]) == len(reply.body) == len(data) // 2


async def test_no_length(visit: Visit) -> None:
    """`no_length` announces nothing."""
    async with visit(FaultPlan.of(Fault("download", "no_length"))) as visitor:
        url, _ = await finished_url(visitor)
        assert "Content-Length" not in (await visitor.fetch(url)).headers


async def test_damage_keeps_the_boxes(visit: Visit) -> None:
    """`damaged` changes bytes of the pictures, and neither length nor boxes."""
    async with visit(FaultPlan.of(Fault("download", "damaged"))) as visitor:
        url, data = await finished_url(visitor)
        body = (await visitor.fetch(url)).body
        changed = [place for place, pair in enumerate(zip(body, data, strict=True)) if pair[0] != pair[1]]
        assert min(changed) > data.index(b"mdat") + 4
        assert 0 < len(changed) <= 256


@pytest.mark.parametrize(("kind", "content"), [("html", "text/html"), ("html_video", "video/mp4")])
async def test_html(visit: Visit, kind: str, content: str) -> None:
    """A page of HTML comes under its own type, or under a video's."""
    async with visit(FaultPlan.of(Fault("download", kind))) as visitor:
        url, _ = await finished_url(visitor)
        reply = await visitor.fetch(url)
        assert reply.headers["Content-Type"].startswith(content)
        assert b"<html>" in reply.body


@pytest.mark.parametrize(("kind", "seconds"), [("slow", 30.0), ("late", 30.0)])
async def test_slow(visit: Visit, kind: str, seconds: float) -> None:
    """Slow downloads take their time, on the loop's clock."""
    async with visit(FaultPlan.of(Fault("download", kind))) as visitor:
        url, _ = await finished_url(visitor)
        before = visitor.sim.now()
        await visitor.fetch(url)
        assert visitor.sim.now() - before == pytest.approx(seconds, abs=1.0)


async def test_range_ignored(visit: Visit) -> None:
    """`range_ignored` answers a range with everything."""
    async with visit(FaultPlan.of(Fault("download", "range_ignored"))) as visitor:
        url, data = await finished_url(visitor)
        reply = await visitor.fetch(url, headers={"Range": "bytes=100-"})
        assert (reply.status, reply.body) == (200, data)


async def test_etag_changed(visit: Visit) -> None:
    """`etag_changed` makes the file anew: a range of the old edition gets all of the new one, from now on."""
    async with visit(FaultPlan.of(Fault("download", "etag_changed", at=(2,)))) as visitor:
        value = await visitor.finished()
        url = value["video"]["url"]
        first = await visitor.fetch(url)
        again = await visitor.fetch(url, headers={"Range": "bytes=100-", "If-Range": first.headers["ETag"]})
        assert again.status == 200
        assert again.headers["ETag"] != first.headers["ETag"]
        assert (len(again.body), again.body != first.body) == (len(first.body), True)
        assert again.body == await visitor.sim.served_bytes(value["id"]) == (await visitor.fetch(url)).body


async def test_expired_early(visit: Visit) -> None:
    """`expired` ends the link for good, whatever it tells; the next poll gives a fresh one that works."""
    async with visit(FaultPlan.of(Fault("download", "expired", at=(1,)))) as visitor:
        value = await visitor.finished()
        old = value["video"]["url"]
        assert [(await visitor.fetch(old)).status for _ in range(2)] == [403, 403]
        fresh = (await visitor.poll(value["id"])).json["video"]["url"]
        assert (await visitor.fetch(fresh)).status == 200


async def test_redirected(visit: Visit) -> None:
    """`redirected` leads to another host name, which serves the file."""
    async with visit(FaultPlan.of(Fault("download", "redirected", at=(1,)))) as visitor:
        url, data = await finished_url(visitor)
        location = (await visitor.fetch(url)).headers["Location"]
        assert URL(location).host != URL(url).host
        assert (await visitor.fetch(location)).body == data


@pytest.mark.parametrize("kind", ["stalled_midway", "cut", "closed"])
async def test_resumable(visit: Visit, kind: str) -> None:
    """What came before a cut and a range of the rest make the whole file; a range can be cut too."""
    async with visit(FaultPlan.of(Fault("download", kind, at=(1, 2)))) as visitor:
        url, data = await finished_url(visitor)
        have = b""
        for _ in range(3):
            headers: dict[str, Any] = {"Range": f"bytes={len(have)}-"} if have else {}
            have += (await visitor.fetch(url, headers=headers)).body
        assert have == data
