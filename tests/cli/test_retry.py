"""`retry`: rows without a video are tried again, from the folder alone; nothing paid for is bought again unasked."""

from __future__ import annotations

import json
import signal
from functools import partial

from kling_async.simulator import Fault, FaultPlan
from tests.cli.conftest import OpenWorld
from tests.cli.harness import DATA_URI, World, at_once, png

SOON = ("--uncertain-after", "1")
"""How long a lost submit is looked for; 75 minutes without it."""
NO_LINK = Fault("job", "no_url", match="prompt 0")
"""The first row's generation is finished and charged, and has no link."""
LOST = Fault("submit", "dropped_after", match="prompt 0")
"""The answer to the first row's submit is lost; the job was made."""
UNREADABLE = Fault("log", "500")
DOWN = FaultPlan.of(LOST, UNREADABLE)


def prompts(world: World) -> list[str]:
    """Return the prompts of all that was bought."""
    return sorted(purchase.prompt for purchase in world.bought())


# ---------------------------------------------------------------- failed rows


def test_what_failed_is_tried_again_without_the_manifest(open_world: OpenWorld) -> None:
    """The journal keeps each request, relative paths and data URIs too; another working directory will do."""
    world = open_world(FaultPlan.of(Fault("job", "error_text", match="again")))
    world.write("data/pictures/cat.png", png())
    rows = [
        {"key": "path", "image": "pictures/cat.png", "prompt": "again 1"},
        {"key": "bytes", "image": DATA_URI, "prompt": "again 2"},
        {"key": "fine", "image": "pictures/cat.png", "prompt": "fine"},
    ]
    manifest = world.write("data/shots.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert world.run("run", "shots.jsonl", "--out", "out", cwd=world.folder / "data").code == 3
    manifest.unlink()
    world.go_wrong(FaultPlan())
    elsewhere = world.folder / "else/where"
    elsewhere.mkdir(parents=True)
    ended = world.run("retry", "../../data/out", "--json", cwd=elsewhere)
    assert (ended.code, ended.document["rows"], ended.document["done"]) == (0, 3, 3), ended.err
    assert "2 rows to try again: 2 bought; 0.52 USD" in ended.err
    assert prompts(world) == ["again 1", "again 1", "again 2", "again 2", "fine"]
    digests = {purchase.image_digest for purchase in world.bought()}
    assert len(digests) == 1, "the same picture, by path and as bytes"
    assert not list(elsewhere.iterdir())
    world.audit("data/out")
    assert not (world.folder / "data/out/failures.jsonl").exists()
    again = world.run("retry", "data/out")
    assert again.code == 0
    assert "nothing to try again" in again.err
    assert "nothing to do" in again.err


def test_rows_are_chosen_by_key_and_by_error(open_world: OpenWorld) -> None:
    """Only those named, by exact key; only those with the error, whatever its case. What is left out counts nowhere."""
    world = open_world(
        FaultPlan.of(Fault("submit", "400", match="prompt 0"), Fault("job", "error_text", match="prompt 1"))
    )
    assert world.run("run", world.manifest(3), "--out", "out").code == 3
    world.go_wrong(FaultPlan())
    dry = world.run("retry", "out", "--error", "INVALIDrequest", "--dry-run", "--json")
    assert (dry.code, dry.document["rows"], dry.document["new"], dry.document["left"]) == (0, 1, 1, 1)
    assert dry.document["price_usd"] == 0.26
    one = world.run("retry", "out", "--key", "row1", "--key", "row2", "--json")
    assert (one.code, one.document["rows"], one.document["done"], one.document["failed"]) == (0, 2, 2, 0)
    assert "row 'row2' is not tried again: it is done" in one.err
    assert "1 row without a video stays as it is" in one.err
    assert (world.folder / "out/failures.jsonl").exists(), "the one that was not chosen is still there"
    assert world.run("retry", "out", "--error", "GenerationFailed", "--error", "invalidrequest").code == 0
    assert prompts(world) == ["prompt 0", "prompt 1", "prompt 1", "prompt 2"]
    world.audit()


def test_an_error_stands_for_its_family(open_world: OpenWorld) -> None:
    """As in `except`: all that could not be downloaded by `DownloadError`, whatever the link was refused for."""
    world = open_world(FaultPlan.of(Fault("download", "404", match="prompt 0")))
    assert world.run("run", world.manifest(2), "--out", "out").code == 3
    for kind, rows in (("DownloadError", 1), ("KlingError", 1), ("LinkExpired", 1), ("DiskFull", 0)):
        dry = world.run("retry", "out", "--error", kind, "--dry-run", "--json")
        assert (dry.document["rows"], dry.document["followed"], dry.document["new"]) == (rows, rows, 0), kind
        assert (dry.document["disk_mb"], dry.document["seconds"]) == (8 * rows, 0), "it is made already, and comes here"


def test_who_waits_for_another_rows_video_is_listed_and_gets_it(open_world: OpenWorld) -> None:
    """A row of equal content as one that was set aside: in the list of failures, and `retry` of both buys nothing."""
    world = open_world(FaultPlan.of(Fault("download", "404")))
    twins = world.manifest([{"key": "a", "prompt": "same"}, {"key": "b", "prompt": "same"}])
    assert world.run("run", twins, "--out", "out").code == 3
    listed = [json.loads(line) for line in (world.folder / "out/failures.jsonl").read_text("utf-8").splitlines()]
    assert sorted(row["key"] for row in listed) == ["a", "b"]
    world.go_wrong(FaultPlan())
    ended = world.run("retry", "out", "--json")
    assert (ended.code, ended.document["done"], ended.document["duplicates"]) == (0, 2, 1), ended.err
    assert len(world.bought()) == 1
    assert not (world.folder / "out/failures.jsonl").exists()
    world.audit()


def test_what_is_wrong_with_the_call_is_told_and_nothing_is_made(world: World) -> None:
    """No folder, no journal, an unknown key, an unknown error: 2, with what to do; no folder comes to be."""
    (world.folder / "empty").mkdir()
    assert world.run("run", world.manifest(1), "--out", "out").code == 0
    before = sorted(path.name for path in world.folder.iterdir())
    for words, told in (
        (("nowhere",), "there is no folder nowhere"),
        (("empty",), "empty has no journal"),
        (("empty", "--journal", "out/.kling/journal.db"), "empty has no journal"),
        (("out", "--journal", "other.db"), "leave --journal out"),
        (("out", "--key", "row0", "--key", "row7"), "there is no row 'row7' in the journal"),
        (("out", "--error", "Timeout"), "GenerationOverdue"),
    ):
        ended = world.run("retry", *words, "--json")
        assert (ended.code, ended.document["error"], ended.document["exit_code"]) == (2, "ConfigurationError", 2)
        assert told in ended.err
        assert told in ended.document["message"]
    assert sorted(path.name for path in world.folder.iterdir()) == before
    assert not list((world.folder / "empty").iterdir())
    assert len(world.bought()) == 1


def test_a_journal_elsewhere_is_found_by_the_folder(open_world: OpenWorld) -> None:
    """The folder knows where it is; where it is gone, that is told, and no other is begun."""
    world = open_world(FaultPlan.of(Fault("job", "error_text")))
    assert world.run("run", world.manifest(1), "--out", "out", "--journal", "disk/j.db").code == 3
    world.go_wrong(FaultPlan())
    assert world.run("retry", "out").code == 0
    assert world.run("retry", "out", "--journal", "disk/j.db").code == 0
    world.audit()
    (world.folder / "disk/j.db").rename(world.folder / "disk/moved.db")
    ended = world.run("retry", "out")
    assert ended.code == 2
    assert "is not there" in ended.err
    assert not (world.folder / "disk/j.db").exists()
    assert not (world.folder / "out/.kling/journal.db").exists()


def test_the_folder_is_taken_like_a_runs(open_world: OpenWorld) -> None:
    """While a run has it, a retry ends with 6."""
    world = open_world(durations=2.0)
    running = world.start("run", world.manifest(1), "--out", "out")
    world.until_called("submit")
    ended = world.run("retry", "out")
    assert ended.code == 6
    assert "is in use by process" in ended.err
    assert running.finish().code == 0


def test_a_retry_asks_before_much_is_spent(open_world: OpenWorld) -> None:
    """As `run` does: on a terminal, above 10 USD without a budget; all but a yes buys nothing."""
    world = open_world(FaultPlan.of(Fault("job", "error_text")))
    assert world.run("run", world.manifest(2), "--out", "out").code == 3
    command = ("retry", "out", "--price", "6")
    ended = world.on_terminal(*command, question="Spend up to 12.00 USD without a budget? [y/N]:", keys="n\n")
    assert ended.code == 2
    assert "nothing was bought" in ended.plain
    assert len(world.bought()) == 2
    ended = world.run(*command, "--budget", "7")
    assert ended.code == 5
    assert "go on with a budget for all rows:" in ended.err
    assert ended.resume == [*command, "--budget", "12.00"]
    assert world.run(*ended.resume).code == 3, "they fail again: it was not the budget that stopped it"


def test_a_stopped_retry_says_how_to_go_on_and_goes_on(open_world: OpenWorld) -> None:
    """A signal: the document has this run's own calls, the command is told, and it finishes without the manifest."""
    world = open_world(FaultPlan.of(Fault("job", "error_text")), durations=0.8)
    command = ("run", world.manifest(6), "--out", "out", "--max-in-flight", "6")
    assert world.run(*command).code == 3
    world.go_wrong(FaultPlan())
    again = ("retry", "out", "--max-in-flight", "2", "--json")
    running = world.start(*again)
    world.until_called("submit", 6 + 4)
    running.send(signal.SIGINT)
    ended = running.finish()
    assert ended.code == 130
    assert ended.document["submits"] == 4
    assert ended.document["polls"] > 0
    assert ended.document["seconds"] > 0
    assert ended.resume == list(again)
    assert world.run(*ended.resume).code == 0
    assert len(world.bought()) == 12
    world.audit()


def test_a_retry_can_be_tried_with_the_simulator(world: World) -> None:
    """`--simulate`: no key, and what an interrupted simulated run left open is finished, too."""
    nothing = {"AIMLAPI_API_KEY": None, "AIMLAPI_BASE_URL": None}
    running = world.start("run", world.manifest(2), "--out", "out", "--simulate", "--verbose", env=nothing)
    running.says("submitting -> submitted", times=2)
    running.send(signal.SIGINT)
    assert running.finish().code == 130
    ended = world.run("retry", "out", "--simulate", "--json", env=nothing)
    assert (ended.code, ended.document["done"], ended.document["submits"]) == (0, 2, 0)
    assert world.run("retry", "out").code == 2, "the real service knows nothing of it"


# ------------------------------------------------------------ money behind them


def test_what_money_stands_behind_is_not_bought_unasked(open_world: OpenWorld) -> None:
    """Charged without a link, or lost on the way: `retry`, with and without `--uncertain`, buys nothing: 3."""

    def refused(world: World, *words: str) -> None:
        assert world.run("run", world.manifest(2), "--out", "out", *SOON).code == 3
        for _ in range(2):
            ended = world.run("retry", "out", *SOON, *words, "--json")
            assert ended.code == 3, ended.err
            assert ended.document["submits"] == 0
        assert world.ask(lambda service: service.book.duplicates()) == []
        assert len(world.bought()) == 2

    at_once(
        partial(refused, open_world(FaultPlan.of(NO_LINK))),
        partial(refused, open_world(FaultPlan.of(NO_LINK)), "--uncertain"),
        partial(refused, open_world(FaultPlan.of(LOST), log_listing="never"), "--uncertain"),
        partial(refused, open_world(FaultPlan.of(LOST), log_listing="never"), "--uncertain", "--key", "row0"),
    )


def test_a_lost_submit_that_may_be_bought_is_priced(open_world: OpenWorld) -> None:
    """The log may list that nothing was bought: then it is bought, which the plan and the question tell beforehand."""
    world = open_world(DOWN)
    assert world.run("run", world.manifest(2), "--out", "out", *SOON).code == 3
    ended = world.run("retry", "out", "--uncertain", "--dry-run", "--json")
    assert "looked for in the usage log, and bought where it lists that nothing was; up to 0.26 USD" in ended.err
    assert (ended.document["new"], ended.document["perhaps"], ended.document["price_usd"]) == (0, 1, 0.26)


def test_a_lost_submit_is_looked_for_only_when_asked(open_world: OpenWorld) -> None:
    """It is found and adopted by `--uncertain`, with `--buy-again` or without; never bought a second time."""

    def found(world: World, *words: str) -> None:
        assert world.run("run", world.manifest(2), "--out", "out", *SOON).code == 3
        world.go_wrong(FaultPlan())
        reads = world.calls("log")
        ended = world.run("retry", "out", "--json")
        assert (ended.code, ended.document["rows"]) == (0, 1), "a row that is not chosen counts nowhere"
        assert "1 row without a video stays as it is" in ended.err
        assert world.calls("log") == reads
        told = world.run("retry", "out").err
        assert "nothing to do: 1 of 2 rows are done; `kling-async retry out --uncertain` looks for the others" in told
        ended = world.run("retry", "out", "--uncertain", *words, *SOON)
        assert ended.code == 0, ended.err
        assert len(world.bought()) == 2
        world.audit()

    at_once(partial(found, open_world(DOWN)), partial(found, open_world(DOWN), "--buy-again"))


def test_to_buy_again_is_said_in_words_and_done(open_world: OpenWorld) -> None:
    """How many are paid for a second time is told even where all else is quiet; the old money stays in the sum."""

    def bought_again(world: World, *words: str) -> None:
        assert world.run("run", world.manifest(2), "--out", "out", *SOON).code == 3
        world.go_wrong(FaultPlan())
        dry = world.run("retry", "out", "--buy-again", *words, "--dry-run", "--json")
        assert "1 row is PAID FOR AGAIN" in dry.err
        assert (dry.document["again"], dry.document["price_usd"]) == (1, 0.26)
        ended = world.run("retry", "out", "--buy-again", *words, *SOON, "--quiet", "--json")
        assert ended.code == 0, ended.err
        assert "1 row is PAID FOR AGAIN" in ended.err
        assert prompts(world) == ["prompt 0", "prompt 0", "prompt 1"]
        assert (ended.document["spent_usd"], ended.document["held_usd"]) == (0.52, 0.26)
        after = world.run("retry", "out", "--buy-again", *words)
        assert after.code == 0
        assert "no row is paid for again" in after.err
        assert len(world.bought()) == 3

    at_once(
        partial(bought_again, open_world(FaultPlan.of(NO_LINK))),
        partial(bought_again, open_world(FaultPlan.of(LOST), log_listing="never"), "--uncertain"),
    )


def test_what_is_there_meanwhile_is_fetched_and_not_bought_again(open_world: OpenWorld) -> None:
    """A row whose video could not be fetched is asked for before it is bought: it comes for nothing."""
    world = open_world(FaultPlan.of(Fault("download", "404", match="prompt 0")))
    assert world.run("run", world.manifest(2), "--out", "out").code == 3
    world.go_wrong(FaultPlan())
    ended = world.run("retry", "out", "--buy-again")
    assert ended.code == 0, ended.err
    assert len(world.bought()) == 2
    world.audit()


# -------------------------------------------------------------------- samples


def test_samples_have_keys_of_their_own_and_are_bought_each(world: World) -> None:
    """`--samples 3`: KEY.1 to KEY.3, counted in the plan; a run without the flag before or after shares the first."""
    command = ("run", world.manifest([{"key": "a"}]), "--out", "out")
    dry = world.run(*command, "--samples", "3", "--dry-run", "--json")
    assert (dry.document["rows"], dry.document["new"], dry.document["price_usd"]) == (3, 3, 0.78)
    assert "24 MB" in dry.err
    assert world.run(*command).code == 0
    ended = world.run(*command, "--samples", "3", "--json")
    assert (ended.code, ended.document["done"], ended.document["duplicates"]) == (0, 4, 1)
    assert len(world.bought()) == 3
    assert world.videos() == {"a.mp4", "a.1.mp4", "a.2.mp4", "a.3.mp4"}
    assert {line["key"]: line["sample"] for line in world.metadata()} == {"a": None, "a.1": 1, "a.2": 2, "a.3": 3}
    again = world.run(*command, "--samples", "3", "--json")
    assert (again.code, again.document["submits"]) == (0, 0)
    assert world.run(*command, "--samples", "0").code == 2


def test_samples_that_failed_are_tried_again_under_their_keys(open_world: OpenWorld) -> None:
    """By `retry`, and by running the list of failures, with `--samples` or without: no KEY.1.1, no edited row."""

    def mended(world: World, *command: str) -> None:
        assert world.run("run", world.manifest(1), "--out", "out", "--samples", "2").code == 3
        world.go_wrong(FaultPlan())
        ended = world.run(*command, "--json")
        assert (ended.code, ended.document["rows"]) == (0, 2), ended.err
        assert world.videos() == {"row0.1.mp4", "row0.2.mp4"}
        assert len(world.bought()) == 4

    failures = ("run", "out/failures.jsonl", "--out", "out")
    at_once(
        *(
            partial(mended, open_world(FaultPlan.of(Fault("job", "error_text"))), *command)
            for command in (("retry", "out"), failures, (*failures, "--samples", "2"))
        )
    )
