"""What may stand for a manifest: a folder, standard input, the first rows alone; and one that is known already."""

from __future__ import annotations

import json
import os
import shlex

from tests.cli.harness import World
from tests.flow.harness import PNG

URL = "https://images.example/cat.png"


def piped(text: str) -> int:
    """Return the end of a pipe out of which a text comes."""
    end, begin = os.pipe()
    os.write(begin, text.encode())
    os.close(begin)
    return end


def resumed(said: str) -> list[str]:
    """Return the arguments of the command that goes on, as it was printed."""
    line = next(line.strip() for line in said.splitlines() if line.strip().startswith("kling-async run"))
    return shlex.split(line)[1:]


def test_a_folder_is_a_manifest(world: World) -> None:
    """Images with prompts beside them, keys by their paths; what is wrong is told by the file, nothing is bought."""
    photos = world.folder / "photos"
    (photos / "b").mkdir(parents=True)
    for name in ("a.png", "b/x.png"):
        (photos / name).write_bytes(PNG)
    (photos / "a.txt").write_text("the cat\n")
    (photos / "lost.txt").write_text("whose?\n")
    ended = world.run("run", "photos", "--out", "out", "--json")
    assert ended.code == 2
    assert ended.document["errors"] == [
        {"line": None, "field": "prompt", "message": "has no image of its name beside it", "file": "lost.txt"}
    ]
    assert "photos: lost.txt, prompt: has no image of its name beside it" in ended.err
    assert not (world.folder / "out").exists()
    (photos / "lost.txt").unlink()
    assert world.run("run", "photos", "--out", "out").code == 0
    lines = [json.loads(line) for line in (world.folder / "out/metadata.jsonl").read_text().splitlines()]
    assert {line["key"]: line["prompt"] for line in lines} == {"a": "the cat", "b/x": None}
    assert world.run("run", "photos", "--out", "out").code == 0
    assert len(world.bought()) == 2


def test_standard_input_is_a_manifest(world: World) -> None:
    """Told by its first character; kept beside the journal, so that the job goes on when the pipe is gone."""
    (world.folder / "cat.png").write_bytes(PNG)
    table = "key\timage\tprompt\na\tcat.png\thello\nb\tcat.png\tbye\n"
    ended = world.run("run", "-", "--out", "out", "--budget", "0.3", stdin=piped(table))
    assert ended.code == 5
    again = resumed(ended.err)
    assert again[1].startswith("out/.kling/stdin-")
    elsewhere = [*again[:1], str(world.folder / again[1]), "--out", str(world.folder / "out"), "--budget", "1"]
    (world.folder / "else").mkdir()
    assert world.run(*elsewhere, cwd=world.folder / "else").code == 0
    assert len(world.bought()) == 2
    rows = '{"image": "%s", "key": "c"}\n{"image": "none.png", "key": "d"}\n' % URL  # noqa: UP031 - JSON has braces
    refused = world.run("run", "-", "--out", "new", stdin=piped(rows))
    assert refused.code == 2
    assert f"standard input: line 2, image: there is no file {world.folder}/none.png" in refused.err
    assert not (world.folder / "new").exists()


def test_a_pipe_by_name_is_told(world: World) -> None:
    """It is read more than once, and from a pipe nothing comes the second time: `run <(make-rows)` says what to do."""
    os.mkfifo(world.folder / "rows")
    ended = world.run("run", "rows", "--out", "out")
    assert (ended.code, ended.err) == (
        2,
        "kling-async: rows is a pipe, which can be read once: pipe it in, and give - for it\n",
    )


def test_a_terminal_is_told_that_it_is_read_from(world: World) -> None:
    """Where nothing is piped it does not hang in silence; a signal ends the reading at once, and nothing is bought."""
    ended = world.on_terminal("run", "-", "--out", "out", question="end it with Ctrl-D", keys="\x03")
    assert ended.code == 130
    assert not (world.folder / "out").exists()


def test_the_first_rows_alone_are_a_canary(world: World) -> None:
    """All rows are checked, the first are bought; without the flag the others follow, and none twice."""
    world.manifest(
        [
            {"key": "a", "prompt": "a"},
            {"key": "a", "prompt": "a"},
            {"key": "b", "prompt": "b"},
            {"key": "c", "prompt": "c"},
            {"key": "d", "duration": 7},
        ]
    )
    wrong = world.run("run", "shots.jsonl", "--out", "out", "--first", "2")
    assert wrong.code == 2
    assert "line 5, duration" in wrong.err
    world.manifest(
        [
            {"key": "a", "prompt": "a"},
            {"key": "a", "prompt": "a"},
            {"key": "b", "prompt": "b"},
            {"key": "c", "prompt": "c"},
        ]
    )
    first = world.run("run", "shots.jsonl", "--out", "out", "--first", "3", "--json")
    assert (first.code, first.document["rows"], first.document["done"]) == (0, 2, 2)
    rest = world.run("run", "shots.jsonl", "--out", "out", "--json")
    assert (rest.code, rest.document["rows"], rest.document["done"], rest.document["submits"]) == (0, 3, 3, 1)
    few = world.run("run", "shots.jsonl", "--out", "out", "--first", "1", "--json")
    assert (few.code, few.document["submits"]) == (0, 0)
    assert len(world.bought()) == 3


def test_a_manifest_that_is_known_is_not_read_again(world: World) -> None:
    """As it stands and with the same flags, it is in the journal: its images are not looked at. Edited, it is read."""
    (world.folder / "cat.png").write_bytes(PNG)
    table = world.folder / "shots.csv"
    table.write_text("key,image,prompt\na,cat.png,one\nb,cat.png,two\nc,cat.png,three\n")
    command = ("run", "shots.csv", "--out", "out", "--json")
    assert world.run(*command, "--budget", "0.3").code == 5
    (world.folder / "cat.png").rename(world.folder / "dog.png")
    gone = world.run(*command, "--dry-run")
    assert (gone.code, gone.document["rows"], gone.document["new"]) == (0, 3, 2)
    assert world.run(*command, "--samples", "2").code == 2, "with other flags it is another job"
    table.write_text(table.read_text() + "d,cat.png,four\n")
    assert world.run(*command).code == 2
    (world.folder / "dog.png").rename(world.folder / "cat.png")
    ended = world.run(*command)
    assert (ended.code, ended.document["rows"], ended.document["done"]) == (0, 4, 4)
    assert len(world.bought()) == 4


def test_rows_of_another_manifest_are_left_alone(world: World) -> None:
    """A folder with rows of two manifests: each run is about its own, though both stand in one journal."""
    one, two = world.manifest([{"key": "a", "prompt": "a"}, {"key": "b", "prompt": "b"}]), world.folder / "two.jsonl"
    two.write_text("".join(json.dumps({"image": URL, "prompt": key, "key": key}) + "\n" for key in "cd"))
    assert world.run("run", one, "--out", "out", "--first", "1").code == 0
    assert world.run("run", one, "--out", "out", "--dry-run").code == 0
    ended = world.run("run", "two.jsonl", "--out", "out", "--json")
    assert (ended.code, ended.document["rows"], ended.document["done"], ended.document["submits"]) == (0, 3, 3, 2)
    assert world.run("run", one, "--out", "out").code == 0
    assert len(world.bought()) == 4
