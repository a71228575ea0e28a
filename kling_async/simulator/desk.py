"""The API's desk: one call in, one reaction out, without any socket.

It knows the routes, the keys and the envelopes; the world knows the jobs, the dice know the troubles. It is told the
time, and must never wait, read a file or open a connection. The server stands before it; a simulation without sockets
may ask it directly.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from attrs import evolve

from kling_async.simulator.calls import Call, Reaction
from kling_async.simulator.dice import draw_token, make_dice
from kling_async.simulator.envelopes import Answer, Complaint, write_complaint, write_json
from kling_async.simulator.faults import FaultDice, FaultPlan, Subject
from kling_async.simulator.jobs import Fate, Job, Order, fate_of
from kling_async.simulator.links import Links
from kling_async.simulator.mishaps import Scene, befall
from kling_async.simulator.openapi import openapi_document
from kling_async.simulator.service import Service
from kling_async.simulator.validation import read_submit
from kling_async.simulator.world import Bidder, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from kling_async.simulator.faults import Fault
    from kling_async.simulator.settings import SimulatorSettings

GENERATIONS: Final = "/v2/video/generations"
OPERATIONS: Final = {
    ("POST", GENERATIONS): "submit",
    ("GET", GENERATIONS): "poll",
    ("GET", "/v2/logs"): "log",
    ("GET", "/v2/billing"): "balance",
    ("GET", "/v1/models"): "price",
}
_GOOD_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_NO_KEY: Final = Complaint(
    status=401, name="UnauthorizedException", message="Unauthorized: the key is missing or wrong"
)


class Desk:
    """Answers every call to the API.

    Args:
        settings: What the service is like.
        plan: What goes wrong.
        cdn_url: Where videos are fetched, without a path.
        now: The time at the start, as a Unix time.
        on_accepted: Told of every job at its acceptance.
    """

    def __init__(
        self,
        settings: SimulatorSettings,
        plan: FaultPlan,
        *,
        cdn_url: str,
        now: float,
        on_accepted: Callable[[Job], None] | None = None,
    ) -> None:
        self.settings = settings
        self.world = World(settings)
        self.book = self.world.book
        self.links = Links(f"link/{settings.seed}", settings.link_life)
        self.service = Service(settings, self.world, self.links, cdn_url)
        self.dice = FaultDice(plan, now)
        self._on_accepted = on_accepted
        self._tokens = make_dice(settings.seed, "calls")
        self._envelopes = make_dice(settings.seed, "envelopes")
        self._latency = make_dice(settings.seed, "latency")
        self._chances = make_dice(settings.seed, "mishaps")

    def set_plan(self, plan: FaultPlan, now: float) -> None:
        """Let other things go wrong from now on."""
        self.dice = FaultDice(plan, now)

    def refuses(self, call: Call, now: float) -> bool:
        """Say whether the call's connection is cut before its body is read. Such a call is counted here."""
        operation = OPERATIONS.get((call.method, call.path))
        if operation is None:
            return False
        subject = Subject(generation_id=call.query.get("generation_id", ""))
        if self.dice.draw(operation, subject, now, door=True) is None:
            return False
        self._count(operation, call)
        self.book.troubles[operation, "refused"] += 1
        return True

    def ask(self, call: Call, now: float) -> Reaction:
        """Take a call and return what is done about it. All its effects have happened when this returns."""
        self.world.advance(now)
        call_id = draw_token(self._tokens)
        operation = OPERATIONS.get((call.method, call.path))
        if operation is None:
            return Reaction(answer=self._marked(self._elsewhere(call, call_id, now), call, call_id))
        self._count(operation, call)
        if operation == "submit" and call.order is None:
            call = evolve(call, order=read_submit(call.body, self.settings))
        fault = self.dice.draw(operation, self._subject(call, now), now)
        if fault is None:
            reaction = Reaction(answer=self._serve(operation, call, call_id, now))
        else:
            self.book.troubles[operation, fault.kind] += 1
            reaction = self._befall(fault, operation, call, call_id, now)
        if fault is None or fault.kind in {"slow_after", "202_after", "leaked_status"}:
            self._notice(call, now)
        if operation == "submit" and reaction.answer.status >= 300:
            self.book.refused[reaction.answer.status] += 1
        return self._delayed(reaction)

    # -------------------------------------------------------------- the calls

    def _serve(self, operation: str, call: Call, call_id: str, now: float) -> Answer:
        bidder = self._bidder(call, call_id)
        result = self._result(operation, call, bidder, now)
        if isinstance(result, Job):
            if self._on_accepted is not None:
                self._on_accepted(result)
            result = self.service.accepted(result)
        elif isinstance(result, Complaint):
            if operation == "submit" and bidder is not None:
                self.world.note_refused(bidder, now)
            result = write_complaint(result, self._envelope(), call.path, call_id, now)
        return self._marked(result, call, call_id)

    def _result(self, operation: str, call: Call, bidder: Bidder | None, now: float) -> Answer | Complaint | Job:
        if operation == "price":
            return self.service.price(call)
        if bidder is None:
            return _NO_KEY
        if operation == "submit":
            order = call.order if call.order is not None else []
            fate = self._fate(order, now) if isinstance(order, Order) else Fate()
            return self.service.submit(order, bidder, now, fate)
        if operation == "poll":
            return self.service.poll(call, now)
        return self.service.log(call, bidder, now) if operation == "log" else self.service.balance()

    def _fate(self, order: Order, now: float) -> Fate:
        fault = self.dice.draw("job", Subject(prompt=order.prompt), now)
        if fault is None:
            return fate_of(None, order)
        self.book.troubles["job", fault.kind] += 1
        return fate_of(fault.kind, order, fault.text)

    def _befall(self, fault: Fault, operation: str, call: Call, call_id: str, now: float) -> Reaction:
        good = self._serve(operation, call, call_id, now) if fault.after else None
        bidder = self._bidder(call, call_id)
        if good is None and operation == "submit" and bidder is not None:
            self.world.note_refused(bidder, now)
        query = "&".join(f"{name}={value}" for name, value in call.query.items())
        return befall(
            Scene(
                fault=fault,
                path=f"{call.path}?{query}" if query else call.path,
                call_id=call_id,
                now=now,
                envelope=self._envelope(),
                chance=self._chances.random(),
                good=good,
            )
        )

    def _elsewhere(self, call: Call, call_id: str, now: float) -> Answer:
        if call.method == "GET" and call.path == "/openapi.json":
            return write_json(openapi_document())
        if call.method == "GET" and call.path == "/_sim/book" and self.settings.admin:
            return write_json(self.book.to_json())
        complaint = Complaint(status=404, name="NotFoundException", message=f"Cannot {call.method} {call.path}")
        return write_complaint(complaint, self._envelope(), call.path, call_id, now)

    # ------------------------------------------------------------- the details

    def _bidder(self, call: Call, call_id: str) -> Bidder | None:
        scheme, _, key = (call.authorization or "").partition(" ")
        if scheme.lower() != "bearer" or key not in self.settings.keys:
            return None
        return Bidder(key=key, request_id=_good_request_id(call.request_id), call_id=call_id)

    def _subject(self, call: Call, now: float) -> Subject:
        if isinstance(call.order, Order):
            return Subject(prompt=call.order.prompt)
        job = self.world.jobs.get(call.query.get("generation_id", ""))
        if job is None:
            return Subject()
        return Subject(prompt=job.order.prompt, generation_id=job.id, age=now - job.accepted_at)

    def _count(self, operation: str, call: Call) -> None:
        self.book.calls[operation] += 1
        if operation == "poll":
            self.book.polls_by_id[call.query.get("generation_id", "")] += 1
        elif operation == "submit" and call.request_id is not None:
            self.book.request_ids[call.request_id] += 1

    def _notice(self, call: Call, now: float) -> None:
        job = self.world.jobs.get(call.query.get("generation_id", ""))
        if job is not None and job.ended and job.purchase.noticed_at is None:
            job.purchase.noticed_at = now

    def _marked(self, answer: Answer, call: Call, call_id: str) -> Answer:
        headers = {**answer.headers, "x-request-id": call_id}
        request_id = _good_request_id(call.request_id)
        if request_id is not None and self.settings.echo_request_id:
            headers["x-client-request-id"] = request_id
        return Answer(status=answer.status, headers=headers, body=answer.body)

    def _envelope(self) -> str:
        if self.settings.envelopes == "mixed":
            return self._envelopes.choice(("problem", "older"))
        return self.settings.envelopes

    def _delayed(self, reaction: Reaction) -> Reaction:
        latency = self.settings.latency
        if self.settings.latency_jitter:
            latency += self.settings.latency_jitter * self._latency.random()
        return evolve(reaction, delay=reaction.delay + latency) if latency else reaction


def _good_request_id(text: str | None) -> str | None:
    """Return the request id, or None if the service drops it."""
    return text if text is not None and _GOOD_REQUEST_ID.fullmatch(text) else None
