"""The figures of a running job: what the poller, the admission and the downloader tell of themselves at one moment."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class AdmissionStatistics:
    """How the account is used."""

    open: int
    """Slots that are taken: generations open at the service, and POSTs in the air."""
    in_air: int
    """POSTs in the air."""
    window: int
    """Slots there are, as far as is known."""
    searching: bool
    """Whether the account's limit is still searched for."""
    accepted: int
    """Submits that were accepted."""
    refused: int
    """Submits that were refused as too many."""
    uncertain: int
    """Submits whose answer is lost and that the usage log was not read for yet."""
    queued: int
    """Open generations that the service has been keeping in its queue for long."""
    paused_for: float
    """Seconds for which all submits pause still."""


@frozen(kw_only=True)
class PollStatistics:
    """How generations are watched."""

    watched: int
    """Generations that are watched."""
    polls: int
    """Polls made."""
    finished: int
    """Generations whose end was noticed."""
    mean_lag: float | None
    """Seconds from an end to its notice, on average: half of the time between the two polls around it; None before
    the first one."""
    median: float | None
    """Seconds that the median generation takes; None before the first one has ended."""
    paused_for: float
    """Seconds for which all polls pause still."""


@frozen(kw_only=True)
class DownloadStatistics:
    """How videos come in."""

    running: int
    """Downloads under way."""
    waiting: int
    """Videos that wait for their turn."""
    done: int
    """Videos that got their final names."""
    tries_failed: int
    """Tries that broke off, or brought no whole video."""
    bytes: int
    """Bytes of the videos that got their names."""


@frozen(kw_only=True)
class Statistics:
    """The figures of a running job."""

    admission: AdmissionStatistics
    polling: PollStatistics
    downloads: DownloadStatistics
    seconds: float = 0.0
    """Seconds since the job was opened: the counts above are of these."""

    def seconds_left(self, rows: int) -> float | None:
        """Return the seconds until so many rows that are to be generated have ended; None where too little is known."""
        return None if not self.polling.median else rows * self.polling.median / max(1, self.admission.window)
