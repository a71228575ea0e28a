"""Exit code 2: what is wrong is told, all at once, before the first cent."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from tests.cli.harness import DATA_URI, Ended, World, png


def refuses(world: World, ended: Ended) -> str:
    """Check that a command ended with 2 without a word on stdout or to the service; return what it said."""
    assert (ended.code, ended.out) == (2, ""), ended
    assert "Traceback" not in ended.err
    assert world.ask(lambda service: service.book.calls["submit"]) == 0
    return ended.err


def test_every_fault_of_a_manifest_is_told_at_once_with_its_line_and_field(world: World) -> None:
    """A manifest with faults in four of five rows: each by line and field, also two in one row, and their number."""
    world.write("cat.png", png())
    world.write("notes.png", "these are no pictures")
    world.write(
        "shots.csv",
        "key,image,prompt,duration,cfg_scale\n"
        "good,cat.png,p,5,0.5\n"
        "a,cat.png,p,7,1.5\n"
        "b,missing.png,p,5,\n"
        "c,notes.png,p,5,\n"
        "d,,p,5,\n",
    )
    ended = world.run("run", "shots.csv", "--out", "out")
    told = refuses(world, ended)
    assert "line 3, duration: must be 5 or 10 (seconds), not 7" in told
    assert "line 3, cfg_scale: must be a number from 0 to 1, not 1.5" in told
    assert "line 4, image: there is no file " in told
    assert "line 5, image: " in told
    assert "line 6, image: is missing" in told
    assert "5 errors in shots.csv; nothing was bought" in told
    assert not (world.folder / "out").exists()


WRONG: tuple[tuple[Mapping[str, object], str], ...] = (
    ({"duration": 7}, "duration: must be 5 or 10"),
    ({"cfg_scale": 1.5}, "cfg_scale: must be a number from 0 to 1"),
    ({"image": "no.png"}, "image: there is no file"),
    ({"image": "notes.png"}, "image: "),
    ({"image": "."}, "image: "),
    ({"tail_image": "cat.png", "static_mask": "cat.png"}, "tail_image: cannot go together with static_mask"),
    ({"tail_image": "cat.png", "duration": 10}, "duration: must be 5 with a tail image"),
    ({"promt": "typo"}, "promt: did you mean prompt?"),
    ({"Duration": 10}, "Duration: did you mean duration?"),
    ({"prompt": "x" * 2501}, "prompt: has 2501 characters"),
    ({"dynamic_masks": [{"mask": "cat.png", "trajectories": [{"x": 1, "y": 1}]}]}, "dynamic_masks[0]: has 1 points"),
    ({"extra": {"prompt": "smuggled"}}, "extra: may not name the typed field prompt"),
)


def test_each_kind_of_fault_is_told_by_line_and_field(world: World) -> None:
    """Values, files, fields that exclude each other, names that look like known ones: each on its line, by its name."""
    world.write("notes.png", "these are no pictures")
    world.manifest([{"prompt": "p"}, *({"prompt": "p", **row} for row, _ in WRONG)])
    told = refuses(world, world.run("run", "shots.jsonl", "--out", "out")).splitlines()
    assert len(told) == len(WRONG) + 1
    for line, (fault, (_, words)) in enumerate(zip(told, WRONG, strict=False), 2):
        assert fault.startswith(f"shots.jsonl: line {line}, {words}")


def test_a_key_that_stands_twice_with_other_content_is_refused(world: World) -> None:
    """The same key for two videos is a fault; for the same row twice it is one row."""
    world.manifest([{"key": "a", "prompt": "one"}, {"key": "a", "prompt": "two"}])
    told = refuses(world, world.run("run", "shots.jsonl", "--out", "out"))
    assert "line 2, key: 'a' stands on line 1 with other content" in told
    world.manifest([{"key": "a", "prompt": "one"}, {"key": "a", "prompt": "one"}])
    assert world.run("run", "shots.jsonl", "--out", "out").code == 0
    assert len(world.bought()) == 1


def test_a_manifest_that_cannot_be_read_is_refused(world: World) -> None:
    """No file, a folder, no rows, no such column, broken CSV or JSON: 2, and a sentence about it."""
    world.write("cat.png", png())
    world.write("empty.csv", "")
    world.write("header.csv", "image,prompt\n")
    world.write("other.csv", "picture,text\ncat.png,p\n")
    world.write("quote.csv", 'image,prompt\ncat.png,"never closed\n')
    world.write("broken.jsonl", '{"image": "cat.png"}\n{"image": \n')
    world.write("latin.csv", "image,prompt\ncat.png,caf\xe9\n".encode("latin-1"))
    (world.folder / "folder").mkdir()
    told = {
        "nowhere.csv": "No such file",
        "folder": "no images",
        "empty.csv": "no rows",
        "header.csv": "no rows",
        "other.csv": "image",
        "quote.csv": "line 2: a quote that begins here is never closed",
        "broken.jsonl": "line 2: is not JSON",
        "latin.csv": "line 2, prompt: holds bytes that are not UTF-8",
    }
    running = {name: world.start("run", name, "--out", "out") for name in told}
    for name, process in running.items():
        assert told[name] in refuses(world, process.finish())
    assert not (world.folder / "out").exists()


def test_more_errors_than_can_be_read_are_counted(world: World) -> None:
    """Of a thousand faults the first fifty are told, and how many there are."""
    world.manifest([{"duration": 7, "key": f"row{i}"} for i in range(1000)])
    told = refuses(world, world.run("run", "shots.jsonl", "--out", "out"))
    assert told.count("must be 5 or 10") == 50
    assert "…and 950 more" in told
    assert "1000 errors in shots.jsonl" in told


def test_a_wrong_setting_is_refused_wherever_it_stands(world: World) -> None:
    """A flag, a variable or a line of the file that is wrong or unknown is named; nothing is ignored in silence."""
    command = ("run", world.manifest(1), "--out", "out")
    variables = {"KLING_ASYNC_GIVE_UP_AFTER": "never", "AIMLAPI_BASE_URL": "localhost"}
    wrong = {
        ("max_in_flight must be", "budget must be", "poll_lag must be", "give_up_after must be", "base_url must be"): (
            world.start(*command, "--max-in-flight", "0", "--budget", "-1", "--poll-lag", "soon", env=variables)
        ),
        ("--on-uncertain",): world.start(*command, "--on-uncertain", "buy"),
        ("No such option",): world.start(*command, "--fast"),
        ("KLING_ASYNC_SPEED",): world.start(*command, env={"KLING_ASYNC_SPEED": "9"}),
    }
    for words, process in wrong.items():
        told = refuses(world, process.finish())
        assert all(word in told for word in words), told
    for text, word in (("speed = 9\nbudget = 'much'", "there is no setting speed; budget must be"), ("=", "be read")):
        world.write("kling-async.toml", text)
        assert word in refuses(world, world.run(*command))


def test_an_output_folder_that_cannot_be_written_is_refused_before_the_first_cent(world: World) -> None:
    """A file where the folder, its videos or its journal should be: 2, and the file stays."""
    command = ("run", world.manifest(1), "--out")
    for place in ("a", "b/videos", "c/.kling", "d/.kling/journal.db"):
        world.write(place, "a file")
    running = {place: world.start(*command, place) for place in ("a", "b", "c", "d", "a/below", "/proc/nowhere")}
    for place, process in running.items():
        assert "kling-async: " in refuses(world, process.finish()), place
    assert (world.folder / "a").read_text() == "a file"
    assert (world.folder / "b/videos").read_text() == "a file"
    assert (world.folder / "d/.kling/journal.db").read_text() == "a file"


def test_an_edited_row_that_is_paid_is_refused_and_the_others_wait(world: World) -> None:
    """A row edited after it was bought: all such rows are named, also for `--json`, and nothing is bought."""
    assert world.run("run", world.manifest(2), "--out", "out").code == 0
    world.manifest([{"key": "row0", "prompt": "other"}, {"key": "row1", "prompt": "other"}, {"key": "new"}])
    ended = world.run("run", "shots.jsonl", "--out", "out", "--json")
    assert ended.code == 2
    assert "'row0'" in ended.err
    assert "'row1'" in ended.err
    assert (ended.document["error"], ended.document["exit_code"]) == ("RequestChanged", 2)
    assert [error["error"] for error in ended.document["errors"]] == ["RequestChanged"] * 2
    assert len(world.bought()) == 2
    world.manifest([{"key": "row0", "prompt": "prompt 0"}, {"key": "row1", "prompt": "prompt 1"}, {"key": "new"}])
    assert world.run("run", "shots.jsonl", "--out", "out").code == 0
    world.audit()


def test_an_edited_row_that_cost_nothing_takes_the_place_of_the_old_one(world: World) -> None:
    """A row that was only planned, or failed, may be edited: nothing was paid for it."""
    world.manifest([{"key": "a", "prompt": "one"}])
    assert world.run("run", "shots.jsonl", "--out", "out", "--dry-run").code == 0
    world.manifest([{"key": "a", "prompt": "two"}])
    assert world.run("run", "shots.jsonl", "--out", "out").code == 0
    assert [purchase.prompt for purchase in world.bought()] == ["two"]


def test_a_folder_of_another_service_is_refused(world: World) -> None:
    """What was bought at one address is not asked for at another: 2, and both are named."""
    assert world.run("run", world.manifest(1), "--out", "out").code == 0
    told = refuses_again(world.run("run", "shots.jsonl", "--out", "out", "--simulate"))
    assert world.service.base_url in told
    assert "another folder" in told


def refuses_again(ended: Ended) -> str:
    assert (ended.code, ended.out) == (2, "")
    return ended.err


def test_commands_that_are_called_wrongly_say_how_to_call_them(world: World) -> None:
    """No such command, no output, no manifest: 2, with a line on the use and nothing on stdout."""
    wrong = [
        world.start("transmute"),
        world.start("run", "shots.jsonl"),
        world.start("run", "--out", "out"),
        world.start("generate", "cat.png"),
        world.start("generate", "-o", "cat.mp4"),
        world.start("generate", "cat.png", "-o", "cat.mp4", "--resume", "an-id"),
        world.start("simulate", "--speed", "0"),
        world.start("simulate", "--faults", "nowhere.toml"),
        world.start("config", "extra"),
    ]
    for process in wrong:
        assert "Usage: " in refuses(world, process.finish())


def test_data_uris_and_urls_need_no_file(world: World) -> None:
    """An image may be a data URI or a URL; a data URI that is no image is refused like a file."""
    world.manifest([{"key": "a", "image": DATA_URI}, {"key": "b", "image": "https://images.example/b.png"}])
    assert world.run("run", "shots.jsonl", "--out", "out").code == 0
    text = base64.b64encode(json.dumps(["no", "image"]).encode()).decode()
    world.manifest([{"key": "c", "image": f"data:image/png;base64,{text}"}])
    ended = world.run("run", "shots.jsonl", "--out", "out")
    assert ended.code == 2
    assert "line 1, image: " in ended.err
    assert len(world.bought()) == 2


def test_a_journal_elsewhere_that_is_missing_or_another_folders_is_refused(world: World) -> None:
    """Not mounted for once, given for a second folder, its pointer damaged: 2, one line, and nothing is bought."""
    rows = world.manifest(1)
    assert world.run("run", rows, "--out", "out", "--journal", "disk/j.db").code == 0
    (world.folder / "disk").rename(world.folder / "unmounted")
    for command in (("run", rows, "--out", "out", "--journal", "disk/j.db"), ("retry", "out")):
        ended = world.run(*command)
        assert (ended.code, len(ended.err.splitlines())) == (2, 1)
        assert "is not there" in ended.err
    (world.folder / "unmounted").rename(world.folder / "disk")
    ended = world.run("run", rows, "--out", "other", "--journal", "disk/j.db")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "go on there with --out" in ended.err
    assert not (world.folder / "other").exists()
    (world.folder / "out/.kling/journal-at").write_bytes(b"\xff\xfe")
    for command in (("run", rows, "--out", "out", "--journal", "disk/j.db"), ("retry", "out")):
        ended = world.run(*command)
        assert (ended.code, len(ended.err.splitlines())) == (2, 1)
        assert "journal-at is damaged" in ended.err
    assert len(world.bought()) == 1
