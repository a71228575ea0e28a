"""The signed links under which finished videos lie on the CDN.

A link tells its own expiry (`ksTime`, hexadecimal Unix seconds) and is good only as it was written. This room must
never put the generation's id into a link: the CDN is another company's.
"""

from __future__ import annotations

from hashlib import sha256
from math import ceil
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kling_async.simulator.jobs import Job

Verdict = Literal["good", "expired", "bad"]


class Links:
    """Writes and checks links.

    Args:
        secret: What they are signed with.
        life: How long a link is good, in seconds.
    """

    def __init__(self, secret: str, life: float) -> None:
        self._secret = secret
        self._life = life
        self._jobs: dict[str, Job] = {}

    def find(self, path: str) -> Job | None:
        """Return the job whose video lies under a path; None if there is none, or no link was ever given to it."""
        return self._jobs.get(path.removeprefix("/generations/").removesuffix(".mp4"))

    def token(self, job: Job) -> str:
        """Return the file's name on the CDN, without its ending."""
        return self._sign(f"token/{job.id}")[:32]

    def path(self, job: Job, now: float) -> str:
        """Return path and query of the link of today; a new one if the last one has expired."""
        issued_at = job.purchase.ended_at if job.link_issued_at is None else job.link_issued_at
        if job.link_serial and job.link_issued_at is None:
            issued_at = now
        if issued_at is None or now >= issued_at + self._life:
            issued_at = now
        job.link_issued_at = issued_at
        self._jobs[self.token(job)] = job
        token, cache_key, ks_time = self.token(job), f"{job.link_serial:04x}", f"{ceil(issued_at + self._life):x}"
        secret = self._sign(f"{token}/{cache_key}/{ks_time}")[:32]
        return f"/generations/{token}.mp4?cacheKey={cache_key}&ksSecret={secret}&ksTime={ks_time}"

    def judge(self, job: Job, query: Mapping[str, str], now: float) -> Verdict:
        """Say whether a link to this job's video is good now."""
        cache_key, ks_time = query.get("cacheKey", ""), query.get("ksTime", "")
        if query.get("ksSecret") != self._sign(f"{self.token(job)}/{cache_key}/{ks_time}")[:32]:
            return "bad"
        return "good" if now < int(ks_time, 16) and cache_key == f"{job.link_serial:04x}" else "expired"

    def _sign(self, text: str) -> str:
        return sha256(f"{self._secret}/{text}".encode()).hexdigest()
