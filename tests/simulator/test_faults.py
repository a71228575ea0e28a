"""The plan of troubles: what it says, when it strikes, and the files it is read from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kling_async.simulator import TROUBLES, Fault, FaultPlan, load_plan, parse_plan
from kling_async.simulator.faults import FaultDice, Subject

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = Subject()


def strikes(plan: FaultPlan, count: int, operation: str = "poll", subject: Subject = NOBODY) -> list[str | None]:
    """Return which kind strikes each of so many calls, all at one time."""
    dice = FaultDice(plan, 0.0)
    faults = [dice.draw(operation, subject, 0.0) for _ in range(count)]
    return [None if fault is None else fault.kind for fault in faults]


def test_empty_plan() -> None:
    """Without a plan nothing goes wrong."""
    assert strikes(FaultPlan(), 3) == [None] * 3


def test_always() -> None:
    """A fault without further words strikes every time."""
    assert strikes(FaultPlan.of(Fault("poll", "404")), 3) == ["404"] * 3


def test_only_its_operation() -> None:
    """A fault strikes its own operation alone."""
    assert strikes(FaultPlan.of(Fault("submit", "404")), 3) == [None] * 3


def test_at() -> None:
    """`at` names the calls by their number, from 1, whatever other faults do."""
    plan = FaultPlan.of(Fault("poll", "500", at=(1, 3)), Fault("poll", "502", at=(3, 4)))
    assert strikes(plan, 5) == ["500", None, "500", "502", None]


def test_at_most() -> None:
    """`at_most` bounds how often it strikes."""
    assert strikes(FaultPlan.of(Fault("poll", "500", at_most=2)), 4) == ["500", "500", None, None]


def test_each_first() -> None:
    """`each_first` strikes the first calls for each generation."""
    dice = FaultDice(FaultPlan.of(Fault("poll", "404", each_first=1)), 0.0)
    struck = [dice.draw("poll", Subject(generation_id=name), 0.0) is not None for name in ("a", "b", "a", "b", "c")]
    assert struck == [True, True, False, False, True]


def test_match() -> None:
    """`match` aims at jobs by their prompt or id, and counts only those."""
    dice = FaultDice(FaultPlan.of(Fault("poll", "404", match="cat", at=(2,))), 0.0)
    calls = [Subject(prompt="a cat"), Subject(prompt="a dog"), Subject(generation_id="cat7")]
    assert [dice.draw("poll", subject, 0.0) is not None for subject in calls] == [False, False, True]


def test_since_until() -> None:
    """`since` and `until` count from when the plan was set."""
    dice = FaultDice(FaultPlan.of(Fault("poll", "503", since=10.0, until=20.0)), 100.0)
    struck = [dice.draw("poll", NOBODY, moment) is not None for moment in (109.0, 110.0, 119.0, 120.0)]
    assert struck == [False, True, True, False]


def test_fresh_only() -> None:
    """`404_fresh` strikes only while the job is young."""
    dice = FaultDice(FaultPlan.of(Fault("poll", "404_fresh", seconds=5.0)), 0.0)
    assert dice.draw("poll", Subject(age=4.0), 0.0) is not None
    assert dice.draw("poll", Subject(age=5.0), 0.0) is None


def test_rates() -> None:
    """Rates strike as often as they say, and add up."""
    kinds = strikes(FaultPlan.of(poll={"500": 0.2, "502": 0.3}), 4_000)
    assert kinds.count("500") / 4_000 == pytest.approx(0.2, abs=0.03)
    assert kinds.count("502") / 4_000 == pytest.approx(0.3, abs=0.03)


def test_seeded() -> None:
    """The same seed strikes the same calls; another seed strikes others; other operations change nothing."""
    plan = FaultPlan.of(poll={"500": 0.3}, log={"500": 0.3}, seed=1)
    assert strikes(plan, 50) == strikes(FaultPlan.of(poll={"500": 0.3}, seed=1), 50)
    assert strikes(plan, 50) != strikes(FaultPlan.of(poll={"500": 0.3}, seed=2), 50)


def test_refused_is_drawn_at_the_door() -> None:
    """`refused` strikes at the door alone, all other kinds behind it."""
    dice = FaultDice(FaultPlan.of(Fault("poll", "refused"), Fault("poll", "500")), 0.0)
    doors = [dice.draw("poll", NOBODY, 0.0, door=door) for door in (True, False)]
    assert [fault.kind for fault in doors if fault is not None] == ["refused", "500"]


def test_plus() -> None:
    """Faults that are added come first."""
    assert strikes(FaultPlan.of(poll={"500": 1.0}).plus(Fault("poll", "404", at=(1,))), 2) == ["404", "500"]


@pytest.mark.parametrize(
    ("operation", "kind"),
    [("submit", "unknown"), ("poll", "no_id_after"), ("job", "500"), ("download", "dropped_after"), ("other", "500")],
)
def test_unknown_kind(operation: str, kind: str) -> None:
    """A kind that the operation does not know is refused when the plan is made."""
    with pytest.raises(ValueError, match=r"no trouble|must be in"):
        Fault(operation, kind)


def test_every_kind_can_be_planned() -> None:
    """Every name in the vocabulary makes a fault, and says what it does."""
    for operation, kinds in TROUBLES.items():
        for kind, words in kinds.items():
            assert Fault(operation, kind).kind == kind
            assert words


PLAN = FaultPlan(
    faults=(
        Fault("submit", "dropped_after", at=(3,), match="cat"),
        Fault("poll", "429_seconds", rate=0.1, at_most=5, seconds=2.5),
        Fault("poll", "502", rate=0.05),
        Fault("log", "500"),
    ),
    seed=7,
)

TOML = """
seed = 7

[[fault]]
operation = "submit"
kind = "dropped_after"
at = [3]
match = "cat"

[[fault]]
operation = "poll"
kind = "429_seconds"
rate = 0.1
at_most = 5
seconds = 2.5

[rates]
poll = {502 = 0.05}
log.500 = 1
"""

JSON = {
    "seed": 7,
    "fault": [
        {"operation": "submit", "kind": "dropped_after", "at": [3], "match": "cat"},
        {"operation": "poll", "kind": "429_seconds", "rate": 0.1, "at_most": 5, "seconds": 2.5},
    ],
    "rates": {"poll": {"502": 0.05}, "log": {"500": 1}},
}


def test_toml(tmp_path: Path) -> None:
    """A plan is read from TOML."""
    (tmp_path / "plan.toml").write_text(TOML)
    assert load_plan(tmp_path / "plan.toml") == PLAN


def test_json(tmp_path: Path) -> None:
    """A plan is read from JSON."""
    (tmp_path / "plan.json").write_text(json.dumps(JSON))
    assert load_plan(str(tmp_path / "plan.json")) == PLAN


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "must be a table"),
        ({"faults": []}, "unknown entries: faults"),
        ({"seed": "x"}, "seed must be an integer"),
        ({"fault": {}}, "list of tables"),
        ({"fault": [{"operation": "poll", "kind": "500", "when": 1}]}, "fault 1 has unknown entries: when"),
        ({"fault": [{"operation": "poll"}]}, "fault 1"),
        ({"fault": [{"operation": "poll", "kind": "5000"}]}, "poll knows no trouble '5000'"),
        ({"fault": [{"operation": "poll", "kind": "500", "rate": 2}]}, "fault 1"),
        ({"rates": {"poll": {"500": "often"}}}, "must be a number"),
    ],
)
def test_bad_plan(tmp_path: Path, document: object, words: str) -> None:
    """A file that is wrong is refused, with the place and the reason."""
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=words):
        load_plan(path)


def test_parse_plan() -> None:
    """A decoded document is read the same way."""
    assert parse_plan(JSON) == PLAN
