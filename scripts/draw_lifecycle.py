"""Draw the life of a row into the documentation, from the transition table that runs.

    python scripts/draw_lifecycle.py

What stands between `<!-- drawn: NAME -->` and `<!-- end -->` in the page is replaced; all else is left as it is. A test
fails where the page and the table differ. It must never hold a transition of its own.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from kling_async.rules.lifecycle import HOLDS_SLOT, LEADS_BACK, PAID_FOR, TRANSITIONS, Step, next_step
from kling_async.types.record import Event, Record, Stage
from kling_async.types.request import ImageToVideo

PAGE = Path(__file__).resolve().parent.parent / "docs/explanation/durability.md"

NEXT = {
    Step.SUBMIT: "buys it",
    Step.FIND: "looks for it in the usage log",
    Step.WATCH: "asks for it until it ends",
    Step.FETCH: "fetches its video",
    Step.NONE: "leaves it: it has ended",
}
"""What a start does with a row, by the step that its stage asks for."""

PLACE = re.compile(r"(?<=<!-- drawn: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def told(event: type[Event]) -> str:
    """Return what an event means: the first sentence of its docstring, without its full stop."""
    return " ".join((event.__doc__ or "").split("\n\n")[0].split()).removesuffix(".")


def diagram() -> Iterator[str]:
    """Yield the lines of the state diagram: one arrow for each pair of stages, with all its events."""
    arrows: dict[tuple[Stage, Stage], list[str]] = {}
    for (source, event), target in TRANSITIONS.items():
        arrows.setdefault((source, target), []).append(event.__name__)
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield "    [*] --> PLANNED"
    for (source, target), events in arrows.items():
        yield f"    {source.name} --> {target.name}: {', '.join(events)}"
    yield "```"


def stages() -> Iterator[str]:
    """Yield the rows of the table of stages."""
    yield "| found | money | place at the service | the next start |"
    yield "| --- | --- | --- | --- |"
    for stage in Stage:
        step = next_step(Record("", "", ImageToVideo("https://images.example/a.png"), "", stage))
        money = "yes, or perhaps" if stage in PAID_FOR else "none"
        place = "yes, or perhaps" if stage in HOLDS_SLOT else "none"
        yield f"| {stage.name} | {money} | {place} | {NEXT[step]} |"


def transitions() -> Iterator[str]:
    """Yield the rows of the table of transitions."""
    yield "| from | event | to | what it means |"
    yield "| --- | --- | --- | --- |"
    for (source, event), target in TRANSITIONS.items():
        back = ", or back" if (source, event) in LEADS_BACK else ""
        yield f"| {source.name} | `{event.__name__}` | {target.name}{back} | {told(event)} |"


PARTS: dict[str, Callable[[], Iterator[str]]] = {"diagram": diagram, "stages": stages, "transitions": transitions}


def drawn(page: str) -> str:
    """Return a page's text with its drawn parts as the table has them now."""

    def part(match: re.Match[str]) -> str:
        lines = "\n".join(PARTS[match[1]]())
        return f"{match[1]}{match[2]}\n{lines}\n\n"

    return PLACE.sub(part, page)


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text("utf-8")), "utf-8")
