"""The remote side without sockets, and the transport to it: the simulator's desk and CDN are asked directly.

It lives on while clients come and go. What a call suffers on its way (an outage, a connection cut, no answer) is told
in the words of `kling_async.ports.Transport`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from attrs import define, evolve, field
from yarl import URL

from kling_async.adapters.images import LocalImages
from kling_async.errors import AnswerLost, KlingError, NotSent
from kling_async.simulator import Call, Desk, FaultPlan, SimulatorSettings
from kling_async.simulator.cdn import Cdn, Delivery, Fetch
from kling_async.simulator.clips import Master, read_template
from kling_async.simulator.jobs import Job
from kling_async.simulator.stamps import http_date
from kling_async.types.exchange import HttpCall, HttpReply
from tests.simulation.loop import SimulatedLoop
from tests.simulation.scenario import Rise

BASE_URL, CDN_URL, KEY = "http://127.0.0.1:1", "http://127.0.0.1:2", "simulated-key"

_TEMPLATES: dict[int, Master] = {}
_PIECES = 3


def _template(duration: int) -> Master:
    if duration not in _TEMPLATES:
        _TEMPLATES[duration] = read_template(duration)
    return _TEMPLATES[duration]


class Remote:
    """The service and its file host.

    Args:
        settings: What the service is like.
        plan: What goes wrong.
        outages: When nothing can be reached: from, to, in wall-clock seconds.
        start: The wall's time when it begins.
        skew: Seconds by which the service's clock is ahead.
        rise: When the price rises, if it does.
    """

    def __init__(
        self,
        settings: SimulatorSettings,
        plan: FaultPlan,
        *,
        outages: tuple[tuple[float, float], ...],
        start: float,
        skew: float,
        rise: Rise | None = None,
    ) -> None:
        self.desk = Desk(settings, plan, cdn_url=CDN_URL, now=start + skew, on_accepted=self._accepted)
        self.desk.service.clip_size = lambda job: len(self.clip(job))
        self.cdn = Cdn(self.desk, "http://localhost:2")
        self.wall = start
        self.excused: set[str | None] = set()
        """Generations, or POSTs, whose slots were rightly given up before they ended."""
        self.most_open = 0
        """The most generations that were open at once, the excused ones apart."""
        self.left_at: dict[str | None, float] = {}
        """When each POST left the client, in wall-clock seconds, by its id."""
        self.told_at: dict[int, float] = {}
        """When the client was first told the dearer price, in wall-clock seconds, by the duration of the video."""
        self.said: dict[str, list[str]] = {}
        """What each generation's polls and downloads were answered in this life, in order: `unfinished`, `link`,
        `denied` (not known, or no link), `refused` (by the file host); what tells nothing is left out."""
        self._rise = rise
        self._outages = outages
        self._skew = skew

    @property
    def now(self) -> float:
        """The service's own time."""
        return self.wall + self._skew

    def settle(self) -> None:
        """Let happen what is due."""
        self.desk.world.advance(self.now)

    def _accepted(self, _job: Job) -> None:
        bought = self.desk.book.bought() if self.desk.book.open_now > self.most_open else ()
        still = [
            one for one in bought if one.state == "held" and not {one.generation_id, one.request_id} & self.excused
        ]
        self.most_open = max(self.most_open, len(still))

    def note_said(self, generation_id: str, status: int, body: bytes) -> None:
        """Take note of what the answer to a poll said of a generation; trouble says nothing."""
        job, said = self.desk.world.jobs.get(generation_id), self.said.setdefault(generation_id, [])
        if status == 404:
            said.append("denied")
        elif status == 200 and CDN_URL.encode() in body:
            said.append("link")
        elif status == 200 and job is not None and job.purchase.state == "held":
            said.append("unfinished")
        elif status == 200 and job is not None and not job.fate.linked:
            said.append("denied")

    def reprice(self) -> None:
        """Let the price rise, if its moment has come."""
        rise, settings = self._rise, self.desk.settings
        if rise is not None and self.wall >= rise.at:
            five, ten = settings.price_5_usd * rise.times, settings.price_10_usd * rise.times
            self.desk.world.settings = evolve(settings, price_5_usd=five, price_10_usd=ten)

    def note_told(self, body: bytes) -> None:
        """Take note of what an answer that has reached the client told it of the price."""
        told = None
        with suppress(ValueError):
            told = json.loads(body)
        if not isinstance(told, dict) or not isinstance(told.get("meta"), dict):
            return
        job = self.desk.world.jobs.get(str(told.get("id")))
        if job is not None and job.purchase.price > self.price_before(job.order.duration):
            self.told_at.setdefault(job.order.duration, self.wall)

    def price_before(self, duration: int) -> int:
        """Return the price of a video before it rose, in credits."""
        return self.desk.settings.price(duration)

    def is_out(self) -> bool:
        """Tell whether nothing can be reached now."""
        return any(begin <= self.wall < end for begin, end in self._outages)

    def clip(self, job: Job, edition: int | None = None) -> bytes:
        """Return the file that the CDN has, or had, for a job."""
        wanted = job.edition if edition is None else edition
        return _template(job.clip_duration).stamped(job.id, wanted, self.desk.settings.clip_bytes)

    def digests(self, job: Job) -> set[str]:
        """Return the digests of every file that it ever had for a job."""
        return {sha256(self.clip(job, edition)).hexdigest() for edition in range(job.edition + 1)}


class LifeClock:
    """The wall's clock of one life: it moves the remote side's along.

    Args:
        remote: The remote side.
        loop: The life's loop.
    """

    def __init__(self, remote: Remote, loop: SimulatedLoop) -> None:
        self._remote = remote
        self._began = remote.wall
        self._loop = loop
        loop.wall = self.wall

    def wall(self) -> float:
        self._remote.wall = self._began + self._loop.time()
        return self._remote.wall


@define
class RemoteTransport:
    """The way of one life to the remote side.

    Args:
        remote: Whom it reaches.
        loop: May die at each step of the way.
        clock: The life's clock.
        dice: Decides how long each way takes.
        inputs: Where images that came as bytes are kept.
        trace: Is told of each call and its end.
    """

    remote: Remote
    loop: SimulatedLoop
    clock: LifeClock
    dice: Random
    inputs: Path
    trace: list[str] = field(factory=list)

    async def send(self, call: HttpCall) -> HttpReply:
        try:
            reply = await self._send(call)
        except KlingError as error:
            self._note(call, type(error).__name__)
            raise
        self._note(call, str(reply.status))
        return reply

    async def _send(self, call: HttpCall) -> HttpReply:
        if call.method == "POST":
            self.remote.left_at[dict(call.headers).get("X-Client-Request-Id")] = self.clock.wall()
        await self._travel("out")
        if self.remote.is_out():
            raise NotSent("the service cannot be reached")
        asked = await self._read(call)
        if self.remote.desk.refuses(asked, self.remote.now):
            raise NotSent("refused") if self.dice.random() < 0.5 else AnswerLost("reset")
        self.remote.reprice()
        reaction = self.remote.desk.ask(asked, self.remote.now)
        if reaction.manner == "stall" or reaction.delay >= call.timeout:
            await asyncio.sleep(call.timeout)
            raise AnswerLost("no answer in time")
        await asyncio.sleep(reaction.delay)
        await self._travel("back")
        if reaction.manner != "send":
            raise AnswerLost("the connection ended before the answer")
        self.remote.note_told(reaction.answer.body)
        if generation_id := asked.query.get("generation_id"):
            self.remote.note_said(generation_id, reaction.answer.status, reaction.answer.body)
        headers = {"date": http_date(int(self.remote.now)), **_lower(reaction.answer.headers)}
        return HttpReply(reaction.answer.status, headers, reaction.answer.body)

    async def _read(self, call: HttpCall) -> Call:
        body = b""
        for part in call.body:
            if isinstance(part, bytes):
                body += part
            else:
                async for piece in LocalImages(self.inputs).encoded(part.source, part.state):
                    body += piece
        names = dict(call.headers)
        return Call(
            method=call.method,
            path=call.path,
            query=dict(call.query),
            authorization=f"Bearer {KEY}",
            request_id=names.get("X-Client-Request-Id"),
            body=body,
        )

    @asynccontextmanager
    async def fetch(self, url: str, *, headers: Mapping[str, str], stall_after: float) -> AsyncIterator[_Download]:
        await self._travel("to the file host")
        if self.remote.is_out():
            raise NotSent("the file host cannot be reached")
        place = URL(url)
        fetch = Fetch(method="GET", path=place.path, target=place.path_qs, query=dict(place.query), headers=headers)
        found = self.remote.cdn.admit(fetch, self.remote.now)
        if not isinstance(found, Delivery):
            job = found
            found = self.remote.cdn.deliver(job, fetch, lambda: self.remote.clip(job), self.remote.now)
        self.trace.append(f"{self.loop.time():.6f} GET {place.path} {found.manner} {found.answer.status}")
        self._note_refused(place.path, found)
        if found.manner == "drop":
            raise AnswerLost("the file host cut the connection")
        if found.manner == "stall" or found.delay >= stall_after:
            await asyncio.sleep(stall_after)
            raise AnswerLost("no byte came for too long")
        await asyncio.sleep(found.delay)
        await self._travel("from the file host")
        yield _Download(self, found, stall_after)

    def _note_refused(self, path: str, found: Delivery) -> None:
        """Take note of a link that the file host refuses, or behind which there is no video."""
        job, status, body = self.remote.desk.links.find(path), found.answer.status, found.answer.body
        if job is not None and (status in {401, 403, 404, 410} or (status == 200 and body[4:8] != b"ftyp")):
            self.remote.said.setdefault(job.id, []).append("refused")

    async def aclose(self) -> None:
        """Nothing is to be closed."""

    async def _travel(self, name: str) -> None:
        """Spend the time of one way; the process may die on it."""
        await asyncio.sleep(self.dice.random() * 0.2)
        self.clock.wall()
        if self.loop.dies_here(name):
            await asyncio.get_running_loop().create_future()

    def _note(self, call: HttpCall, end: str) -> None:
        subject = dict(call.query).get("generation_id") or dict(call.headers).get("X-Client-Request-Id", "")
        self.trace.append(f"{self.loop.time():.6f} {call.method} {call.path} {subject} {end}")


class _Download:
    """An answer of the file host, coming in by pieces."""

    def __init__(self, transport: RemoteTransport, delivery: Delivery, stall_after: float) -> None:
        self._transport, self._delivery, self._stall_after = transport, delivery, stall_after
        self.status = delivery.answer.status
        told = {} if delivery.announced is None else {"content-length": str(delivery.announced)}
        self.headers: Mapping[str, str] = {**_lower(delivery.answer.headers), **told}

    async def pieces(self) -> AsyncIterator[bytes]:
        delivery, body = self._delivery, self._delivery.answer.body
        step = max(1, -(-len(body) // _PIECES))
        for start in range(0, len(body), step):
            await asyncio.sleep(delivery.spread / _PIECES)
            await self._transport._travel("a piece of a video")
            yield body[start : start + step]
        if delivery.manner == "hang":
            await asyncio.sleep(self._stall_after)
            raise AnswerLost("no byte came for too long")
        if delivery.manner == "cut" or (delivery.announced is not None and delivery.announced != len(body)):
            raise AnswerLost("the download broke off")


def _lower(headers: Mapping[str, Any]) -> dict[str, str]:
    return {name.lower(): str(value) for name, value in headers.items()}
