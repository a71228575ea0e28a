"""What each call of the API does when nothing goes wrong, and the shapes of its answers.

It is told the time. This room must never write an error's envelope (the desk does), nor know of troubles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kling_async.simulator.envelopes import Answer, Complaint, write_json
from kling_async.simulator.jobs import Job
from kling_async.simulator.settings import CREDITS_PER_USD, DAY, MODEL, SimulatorSettings
from kling_async.simulator.stamps import read_iso, read_period
from kling_async.simulator.usagelog import LogQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kling_async.simulator.calls import Call
    from kling_async.simulator.jobs import Fate, Order
    from kling_async.simulator.links import Links
    from kling_async.simulator.validation import Issue
    from kling_async.simulator.world import Bidder, Refusal, World

MAX_WINDOW: Final = 92 * DAY
REFUSALS: Final[Mapping[Refusal, Complaint]] = {
    "limit": Complaint(
        status=429, name="TooManyRequestsException", message="parallel task over resource pack limit (code 1303)"
    ),
    "credit": Complaint(
        status=403,
        name="OutOfFundsException",
        message="You've run out of credits. Please top up your balance or update your payment method to continue.",
        data={"kind": "err_insufficent_credits"},
    ),
}


class Service:
    """Does what the calls ask for.

    Args:
        settings: What the service is like.
        world: Its jobs.
        links: Writes the links of finished videos.
        cdn_url: Where videos are fetched, without a path.
    """

    def __init__(self, settings: SimulatorSettings, world: World, links: Links, cdn_url: str) -> None:
        self._settings = settings
        self._world = world
        self._links = links
        self._cdn_url = cdn_url
        self.clip_size: Callable[[Job], int] | None = None

    def submit(self, order: Order | list[Issue], bidder: Bidder, now: float, fate: Fate) -> Job | Complaint:
        """Take a job in, or say why not."""
        if isinstance(order, list):
            words = "; ".join(f"{'.'.join(map(str, _path(issue)))}: {issue['message']}" for issue in order)
            return Complaint(status=400, name="BadRequestException", message=words, data=order)
        job = self._world.accept(order, bidder, now, fate)
        return job if isinstance(job, Job) else REFUSALS[job]

    def accepted(self, job: Job) -> Answer:
        """Return the answer of a submit."""
        value: dict[str, object] = {"id": job.id, "status": "queued"}
        if self._settings.meta:
            price = job.purchase.price
            value["meta"] = {"usage": {"credits_used": price, "usd_spent": price / CREDITS_PER_USD}}
        return write_json(value, self._settings.submit_status, {"x-inference-id": job.id})

    def poll(self, call: Call, now: float) -> Answer | Complaint:
        """Say where a job stands."""
        generation_id = call.query.get("generation_id", "")
        if not generation_id:
            issue = {"code": "invalid_type", "path": ["generation_id"], "message": "Required"}
            return Complaint(status=400, name="BadRequestException", message="generation_id: Required", data=[issue])
        job = self._world.jobs.get(generation_id)
        if job is None:
            self._world.book.unclean_polls.append(generation_id)
            return Complaint(status=404, name="NotFoundException", message="Inference not found")
        value: dict[str, object] = {"id": job.id, "status": self._world.status(job, now)}
        if job.done and job.fate.linked:
            job.purchase.links += 1
            value["video"] = self._video(job, now)
        elif job.ended and job.fate.error is not None:
            value["error"] = job.fate.error
        return write_json(value, 200, {"x-inference-id": job.id})

    def log(self, call: Call, bidder: Bidder, now: float) -> Answer | Complaint:
        """Return one page of the usage log."""
        wait = self._world.log.wait_for(now)
        if wait > 0:
            words = f"Too many requests, try again in {wait:.0f} seconds"
            return Complaint(status=429, name="ThrottlerException", message=words)
        query = read_log_query(call.query, now)
        if isinstance(query, str):
            return Complaint(status=400, name="BadRequestException", message=query)
        return write_json(self._world.log.page(query, bidder.key, now))

    def balance(self) -> Answer:
        """Say what can still be spent."""
        usd = self._world.book.balance / CREDITS_PER_USD
        return write_json({"current_balance": round(usd, 6), "currency": "USD"})

    def price(self, call: Call) -> Answer:
        """List the models asked for, with their prices if those are asked for too."""
        model: dict[str, object] = {"id": MODEL, "type": "video", "aliases": [f"klingai/{MODEL}"]}
        if "pricing" in call.query.get("include", "").split(","):
            model["pricing"] = self._pricing()
        wanted = call.query.get("id")
        return write_json({"object": "list", "data": [model] if wanted in {None, MODEL, f"klingai/{MODEL}"} else []})

    def _pricing(self) -> dict[str, object]:
        settings = self._settings
        if settings.price_kind == "variable":
            return {"kind": "variable"}
        if settings.price_kind == "fixed":
            unit = {"name": "video", "measure": "second", "price": round(settings.price_5_usd / 5, 9), "per": 1}
            return {"kind": "fixed", "units": [unit]}
        prices = {5: settings.price_5_usd, 10: settings.price_10_usd}
        variants = [
            {
                "name": f"{duration}s",
                "params": {"duration": duration},
                "units": [{"name": "video", "measure": "generation", "price": price, "per": 1}],
            }
            for duration, price in prices.items()
        ]
        return {"kind": "variants", "variants": variants}

    def _video(self, job: Job, now: float) -> object:
        url = self._cdn_url + self._links.path(job, now)
        shape = self._settings.video
        if shape == "object":
            return {"url": url}
        if shape == "full":
            size = self.clip_size(job) if self.clip_size is not None else 0
            return {"url": url, "content_type": "video/mp4", "file_name": "output.mp4", "file_size": size}
        return [url] if shape == "list" else url


def read_log_query(query: Mapping[str, str], now: float) -> LogQuery | str:
    """Return what is asked of the usage log, or what is wrong with the question."""
    window = _read_window(query, now)
    if isinstance(window, str):
        return window
    limit, offset = query.get("limit", "50"), query.get("offset", "0")
    if not limit.isdecimal() or not 1 <= int(limit) <= 100:
        return "limit must be an integer from 1 to 100"
    if not offset.isdecimal():
        return "offset must be an integer not less than 0"
    status = query.get("status")
    if status not in {None, "succeeded", "failed"}:
        return "status must be one of: succeeded, failed"
    return LogQuery(
        start=window[0],
        end=window[1],
        model=query.get("model"),
        status=status,
        limit=int(limit),
        offset=int(offset),
    )


def _read_window(query: Mapping[str, str], now: float) -> tuple[float, float] | str:
    if "period" in query:
        if "start" in query or "end" in query:
            return "period excludes start and end"
        seconds = read_period(query["period"])
        return "period must be an integer and h or d" if seconds is None else (now - seconds, now)
    if "start" not in query or "end" not in query:
        return "either period or both start and end must be given"
    start, end = read_iso(query["start"]), read_iso(query["end"])
    if start is None or end is None:
        return "start and end must be ISO-8601 dates"
    return (start, end) if 0 <= end - start <= MAX_WINDOW else "start and end must be at most 92 days apart"


def _path(issue: Issue) -> list[object]:
    path = issue["path"]
    return path if isinstance(path, list) else []
