"""The service's calls, one method each. No loop, no second try, no decision: an answer, or one typed error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from attrs import frozen

from kling_async.errors import InvalidRequest, Issue
from kling_async.ports import Images, Transport
from kling_async.rules import account, wire
from kling_async.rules.identity import content_digest
from kling_async.rules.images import ImageFacts, check_image, check_masks, check_tail
from kling_async.rules.limits import check_fields
from kling_async.types.exchange import HttpCall
from kling_async.types.generation import Generation
from kling_async.types.image import ImageKind, ImageSource
from kling_async.types.request import ImageToVideo
from kling_async.types.settings import ServiceSettings

T = TypeVar("T")


@frozen
class Prepared:
    """A request that is ready to be sent, as often as it is permitted."""

    request: ImageToVideo
    """What is asked for."""
    images: Mapping[str, wire.SizedImage]
    """Type and state of each local image, by its field's name."""
    content: str
    """The digest of what is sent."""


class Service:
    """The remote service.

    Args:
        transport: The way to it.
        images: Local images.
        settings: Timeouts.
        image_checks: Whether the model's own rules are checked before anything is sent.
    """

    def __init__(
        self, transport: Transport, images: Images, settings: ServiceSettings, *, image_checks: bool = True
    ) -> None:
        self.transport = transport
        self.images = images
        self._settings = settings
        self._image_checks = image_checks
        self.submits = 0
        self.polls = 0

    async def prepare(self, request: ImageToVideo) -> Prepared:
        """Look at the request's images, and check what can be known before anything is paid.

        Raises:
            InvalidRequest: With every fault, each with its field.
        """
        issues = check_fields(request) if self._image_checks else []
        local = [(name, source) for name, source in request.images if source.kind is not ImageKind.URL]
        sized = await _each(local, self._sized, issues)
        if self._image_checks:
            facts = await _each([pair for pair in local if pair[0] in sized], self.images.facts, issues)
            issues += _check_pictures(facts, sized)
        # A whole image is read where it may be sent alone: one that is refused may be larger than any image.
        digests = {} if issues else await _each(request.images, self.images.digest, issues)
        if issues:
            raise InvalidRequest(issues=tuple(issues))
        return Prepared(request, sized, content_digest(request, digests))

    async def _sized(self, source: ImageSource) -> wire.SizedImage:
        state = await self.images.state(source)  # before all else: what changes from here on is not sent
        return wire.SizedImage(await self.images.mime(source), state)

    async def submit(self, prepared: Prepared, *, client_request_id: str) -> Generation:
        """Buy one video: one POST.

        Raises:
            KlingError: One leaf; `kling_async.rules.retry` tells what follows.
        """
        call = wire.encode_submit(
            prepared.request,
            prepared.images,
            client_request_id=client_request_id,
            timeout=self._settings.submit_timeout,
        )
        self.submits += 1
        reply = await self.transport.send(call)
        return wire.decode_submit(reply, client_request_id=client_request_id)

    async def retrieve(self, generation_id: str, *, call: HttpCall | None = None) -> Generation:
        """Ask once for a generation.

        Args:
            generation_id: Its id.
            call: What `poll_call` returned for it, if it is asked again and again.
        """
        self.polls += 1
        reply = await self.transport.send(self.poll_call(generation_id) if call is None else call)
        return wire.decode_poll(reply, generation_id=generation_id)

    def poll_call(self, generation_id: str) -> HttpCall:
        """Return the call that polls a generation."""
        return wire.encode_poll(generation_id, timeout=self._settings.poll_timeout)

    async def log_page(self, start: float, end: float, *, offset: int) -> account.LogPage:
        """Read one page of the usage log.

        Args:
            start: Wall-clock seconds.
            end: Wall-clock seconds.
            offset: Rows to skip.
        """
        call = account.encode_log(start, end, offset=offset, timeout=self._settings.poll_timeout)
        return account.decode_log(await self.transport.send(call))

    async def balance(self) -> float:
        """Return the account's balance in USD."""
        return account.decode_balance(
            await self.transport.send(account.encode_balance(timeout=self._settings.poll_timeout))
        )

    async def prices(self, model: str) -> dict[int, float]:
        """Return the price of one video in USD by its duration, as far as the service tells it for certain."""
        call = account.encode_price(model, timeout=self._settings.poll_timeout)
        return account.decode_prices(await self.transport.send(call), model=model)


async def _each(
    sources: Iterable[tuple[str, ImageSource]], look: Callable[[ImageSource], Awaitable[T]], issues: list[Issue]
) -> dict[str, T]:
    """Look at images, each by its field's name; what is wrong with one joins the issues, and hides no other."""
    found = {}
    for name, source in sources:
        try:
            found[name] = await look(source)
        except InvalidRequest as error:
            issues.extend(Issue(name, issue.message) for issue in error.issues)
    return found


def _check_pictures(facts: Mapping[str, ImageFacts], sized: Mapping[str, wire.SizedImage]) -> list[Issue]:
    issues: list[Issue] = []
    if "image" in facts:
        issues += check_image("image", facts["image"], sized["image"].state.size)
    if "tail_image" in facts:
        issues += check_tail("tail_image", facts["tail_image"], sized["tail_image"].state.size)
    masks = [(name, found) for name, found in facts.items() if name not in {"image", "tail_image"}]
    if masks and "image" in facts:
        issues += check_masks(facts["image"], masks)
    return issues
