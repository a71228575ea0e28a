"""Before the first cent a run says what it will buy, and asks where that is much and a person is there to answer."""

from __future__ import annotations

import signal
from functools import partial

from kling_async.simulator import Fault, FaultPlan
from tests.cli.conftest import OpenWorld
from tests.cli.harness import World, at_once

DEAR = ("--price", "6")
"""Two rows at this price are above what is spent unasked."""
QUESTION = "Spend up to 12.00 USD without a budget? [y/N]:"


def test_a_dry_run_tells_what_would_be_bought_and_buys_nothing(world: World) -> None:
    """`--dry-run`: rows, price, balance, time and disk on stderr, the same as a document, exit 0, and no purchase."""
    world.manifest([{"key": "a"}, {"key": "b", "duration": 10}, {"key": "c"}])
    ended = world.run("run", "shots.jsonl", "--out", "out", "--dry-run", "--json")
    assert ended.code == 0
    assert "3 rows, 3 new: 1.04 USD, 1000.00 USD on the account; about 4 min, 32 MB on the disk" in ended.err
    assert ended.document == {
        "rows": 3,
        "new": 3,
        "again": 0,
        "followed": 0,
        "looked_for": 0,
        "perhaps": 0,
        "left": 0,
        "price_usd": 1.04,
        "balance_usd": 1000.0,
        "seconds": 232,
        "disk_mb": 32,
    }
    assert not world.bought()
    assert not world.videos()
    assert world.run("run", "shots.jsonl", "--out", "out").code == 0
    after = world.run("run", "shots.jsonl", "--out", "out", "--dry-run", "--json")
    assert (after.document["new"], after.document["price_usd"]) == (0, 0)


def test_a_dry_run_exits_with_0_even_where_a_run_would_not(open_world: OpenWorld) -> None:
    """`--dry-run` after rows failed, or beyond the budget, still only tells."""
    world = open_world(FaultPlan.of(Fault("job", "error_text")))
    assert world.run("run", world.manifest(1), "--out", "out").code == 3
    assert world.run("run", "shots.jsonl", "--out", "out", "--dry-run").code == 0
    assert world.run("run", world.manifest(2), "--out", "out", "--dry-run", "--budget", "0.1").code == 0
    assert len(world.bought()) == 1


def test_a_person_who_does_not_say_yes_spends_nothing(open_world: OpenWorld) -> None:
    """On a terminal, above 10 USD without a budget, it asks; all but a yes buys nothing and ends with 2."""

    def asked(world: World, keys: str) -> None:
        command = ("run", world.manifest(2), "--out", "out", "--json", *DEAR)
        ended = world.on_terminal(*command, question=QUESTION, keys=keys)
        assert ended.code == 2
        assert "nothing was bought" in ended.plain
        assert ended.document["exit_code"] == 2
        assert not world.bought()

    at_once(*(partial(asked, open_world(), keys) for keys in ("n\n", "\n", "what?\n", "\x04")))


def test_a_person_who_says_yes_spends(world: World) -> None:
    """A yes goes on."""
    ended = world.on_terminal("run", world.manifest(2), "--out", "out", *DEAR, question=QUESTION, keys="y\n")
    assert ended.code == 0
    assert len(world.bought()) == 2


def test_ctrl_c_at_the_question_ends_the_run(world: World) -> None:
    """Ctrl-C in place of an answer: 130 at once, and nothing is bought."""
    ended = world.on_terminal("run", world.manifest(2), "--out", "out", *DEAR, question=QUESTION, keys="\x03")
    assert ended.code == 128 + signal.SIGINT
    assert not world.bought()


def test_who_answered_beforehand_is_not_asked(open_world: OpenWorld) -> None:
    """`--yes`, a budget, or a sum of 10 USD at the most: no question on the terminal."""

    def unasked(world: World, *flags: str) -> None:
        ended = world.on_terminal("run", world.manifest(2), "--out", "out", *flags)
        assert ended.code == 0
        assert "Spend up to" not in ended.plain
        assert len(world.bought()) == 2

    answers = (*DEAR, "--yes"), (*DEAR, "--budget", "20"), ("--price", "5")
    at_once(*(partial(unasked, open_world(), *flags) for flags in answers))


def test_without_a_terminal_it_warns_and_goes_on(world: World) -> None:
    """Nobody there to ask: the sum is told, and the run goes on."""
    ended = world.run("run", world.manifest(2), "--out", "out", *DEAR)
    assert ended.code == 0
    assert "going on to spend 12.00 USD without a budget" in ended.err
    assert len(world.bought()) == 2


def test_a_price_that_nobody_tells_is_asked_about_and_a_budget_refuses_it(open_world: OpenWorld) -> None:
    """Without a price the sum is unknown: a budget cannot hold, so that it is refused; without one it warns."""
    world = open_world(FaultPlan.of(Fault("price", "404")))
    ended = world.run("run", world.manifest(1), "--out", "out", "--budget", "5")
    assert ended.code == 2
    assert "give --price USD" in ended.err
    assert not world.bought()
    ended = world.run("run", "shots.jsonl", "--out", "out")
    assert ended.code == 0
    assert "going on to spend an unknown sum" in ended.err


def test_each_model_has_its_own_price(world: World) -> None:
    """The plan counts each row at its model's price; under a budget a model without one is refused, no other one."""
    alias = "klingai/kling-video/v1/standard/image-to-video"
    rows: list[dict[str, object]] = [{"key": "a"}, {"key": "b", "model": alias}]
    told = world.run("run", world.manifest(rows), "--out", "out", "--dry-run", "--json")
    assert told.document["price_usd"] == 0.52
    world.manifest([{"key": "a"}, {"key": "c", "model": "another/model"}])
    assert world.run("run", "shots.jsonl", "--out", "out", "--dry-run", "--json").document["price_usd"] is None
    priced = world.run("run", "shots.jsonl", "--out", "out", "--dry-run", "--json", "--price", "0.3")
    assert priced.document["price_usd"] == 0.6
    ended = world.run("run", "shots.jsonl", "--out", "out", "--budget", "5", "--json")
    assert (ended.code, ended.document["done"], ended.document["failed"]) == (3, 1, 1)
    assert "c: failed: a budget needs a price, and the service tells none for its model: give --price USD" in ended.err
    assert len(world.bought()) == 1


def test_rows_of_equal_content_are_bought_once(world: World) -> None:
    """Two keys for the same image and prompt share one generation, and each has its file and its line."""
    world.manifest([{"key": "a", "prompt": "same"}, {"key": "b", "prompt": "same"}, {"key": "c", "prompt": "other"}])
    ended = world.run("run", "shots.jsonl", "--out", "out", "--json")
    assert (ended.code, ended.document["done"], ended.document["duplicates"]) == (0, 3, 1)
    assert len(world.bought()) == 2
    assert world.videos() == {"a.mp4", "b.mp4", "c.mp4"}
    world.audit()
