"""`verify`: the videos of a folder against its journal, from the folder alone; what is bad is fetched again."""

from __future__ import annotations

import json
import os
import signal

from kling_async.simulator import Fault, FaultPlan
from tests.cli.conftest import OpenWorld
from tests.cli.harness import World

KEYLESS = {"AIMLAPI_API_KEY": None, "AIMLAPI_BASE_URL": None}
"""Neither a key nor an address."""


def made(world: World, rows: int | list[dict[str, str]] = 3, *words: str) -> None:
    """Make videos into `out`."""
    ended = world.run("run", world.manifest(rows), "--out", "out", *words)
    assert ended.code == 0, ended.err


def test_a_whole_folder_ends_with_0(world: World) -> None:
    """0: nothing on stdout, the sum on stderr; also without a key, and without a word where that is wanted."""
    made(world)
    for env in ({}, KEYLESS):
        ended = world.run("verify", "out", env=env)
        assert (ended.code, ended.out) == (0, "")
        assert "videos checked: 3 (3 whole, 0 fetched again, 0 bad)" in ended.err
    quiet = world.run("verify", "out", "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    assert world.calls("download") == 3


def test_what_is_missing_or_damaged_is_fetched_and_not_bought(world: World) -> None:
    """0: one line for each on stdout; the files are what was made, nothing was bought."""
    made(world, 4)
    videos = world.folder / "out/videos"
    (videos / "row0.mp4").unlink()
    os.truncate(videos / "row1.mp4", 5000)
    (videos / "row2.mp4").write_bytes((videos / "row3.mp4").read_bytes())
    ended = world.run("verify", "out", "--deep")
    assert ended.code == 0, ended.err
    lines = sorted(ended.out.splitlines())
    assert [line.split(":")[0] for line in lines] == ["row0", "row1", "row2"]
    assert all(line.endswith(": fetched again") for line in lines)
    assert "there is no such file" in lines[0]
    assert "(1 whole, 3 fetched again, 0 bad)" in ended.err
    assert len(world.bought()) == world.calls("submit") == 4
    world.audit()


def test_bad_files_that_remain_end_with_3(open_world: OpenWorld) -> None:
    """3: told with the reason, once each; what stands there is left as it is. `--json` is one document."""
    world = open_world()
    made(world)
    place = world.folder / "out/videos/row1.mp4"
    place.write_bytes(b"mine")
    (world.folder / "out/videos/holiday.mp4").write_bytes(b"mine")
    world.go_wrong(FaultPlan.of(Fault("download", "404")))
    plain = world.run("verify", "out")
    assert plain.code == 3
    assert plain.out.startswith("row1: out/videos/row1.mp4: it has 4 bytes, not the ")
    assert "bad: the file host refuses the link" in plain.out
    assert "that belong to no row, and were left alone: 1" in plain.err
    document = world.run("verify", "out", "--json")
    assert document.code == 3
    assert {name: document.document[name] for name in ("checked", "whole", "fetched", "bad", "strays")} == {
        "checked": 3,
        "whole": 2,
        "fetched": 0,
        "bad": 1,
        "strays": 1,
    }
    (finding,) = document.document["findings"]
    assert (finding["key"], finding["fault"], finding["bad"], finding["fetched"]) == ("row1", "size", True, False)
    assert finding["generation_id"] in {one.generation_id for one in world.bought()}
    world.go_wrong(FaultPlan())
    looked = world.run("verify", "out", "--no-fetch")
    assert (looked.code, "bad: it was not to be fetched" in looked.out) == (3, True)
    keyless = world.run("verify", "out", env=KEYLESS)
    assert (keyless.code, "bad: there is no key to ask for it with" in keyless.out) == (3, True)
    assert place.read_bytes() == b"mine"
    assert world.run("verify", "out", "--quiet", "--json").document["fetched"] == 1
    assert world.run("verify", "out", "--json").document["findings"] == []
    assert (world.folder / "out/videos/holiday.mp4").read_bytes() == b"mine"


def test_a_key_cannot_act_on_the_terminal(world: World) -> None:
    """Keys come from outside: each row is one line, and nothing in it turns the text around or colours it."""
    made(world, [{"key": "a\x1b[31m\nb\u202e", "prompt": "x"}])
    for video in (world.folder / "out/videos").iterdir():
        video.unlink()
    (line,) = world.run("verify", "out", "--no-fetch").out.splitlines()
    assert line.startswith("a\ufffd[31m b\ufffd: out/videos/")


def test_each_way_to_end_has_its_code(open_world: OpenWorld) -> None:
    """6: in use; 2: no journal, another service, no decoder; 4: a refused key; 75: no service."""
    world = open_world(durations=2.0)
    running = world.start("run", world.manifest(1), "--out", "out")
    world.until_called("submit")
    ended = world.run("verify", "out", "--json")
    assert (ended.code, ended.document["error"]) == (6, "JournalLocked")
    assert running.finish().code == 0
    (world.folder / "out/videos/row0.mp4").unlink()
    (world.folder / "empty").mkdir()
    world.write("without/av.py", "raise ImportError('no av here')")
    for words, env, code, told in (
        (("nowhere",), {}, 2, "there is no folder nowhere"),
        (("empty",), {}, 2, "empty has no journal"),
        (("out", "--journal", "other.db"), {}, 2, "leave --journal out"),
        (("out",), {"AIMLAPI_BASE_URL": "http://127.0.0.1:9"}, 2, "the journal belongs to the service at"),
        (("out", "--deep"), {"PYTHONPATH": _with(world, "without")}, 2, "pip install 'kling-async[video]'"),
        (("out",), {"AIMLAPI_API_KEY": "sk-another"}, 4, "check the key in AIMLAPI_API_KEY"),
    ):
        ended = world.run("verify", *words, env=env)
        assert ended.code == code, (words, ended)
        assert told in ended.err
    assert not list((world.folder / "empty").iterdir())
    world.loop.do(world.service.stop_listening())
    ended = world.run("verify", "out", "--unavailable-after", "1")
    assert ended.code == 75, ended.err
    assert "row0: out/videos/row0.mp4: there is no such file: bad: no usable answer" in ended.out
    world.loop.do(world.service.listen_again())
    assert world.run("verify", "out").code == 0
    assert len(world.bought()) == 1
    world.audit()


def _with(world: World, folder: str) -> str:
    """Return the program's path for modules with a folder before all others."""
    return os.pathsep.join([str(world.folder / folder), world.base.get("PYTHONPATH", "")]).rstrip(os.pathsep)


def test_a_simulated_folder_can_be_mended_by_the_simulator(world: World) -> None:
    """`--simulate`: it knows the generations again, and has other bytes of them: journal and metadata say so."""
    ended = world.run("run", world.manifest(3), "--out", "out", "--simulate", env=KEYLESS)
    assert ended.code == 0, ended.err
    (world.folder / "out/videos/row1.mp4").unlink()
    before = world.metadata()
    ended = world.run("verify", "out", "--simulate", "--json", env=KEYLESS)
    assert (ended.code, ended.document["fetched"]) == (0, 1), ended.err
    after = world.metadata()
    assert [line["key"] for line in after] == [line["key"] for line in before]
    for line in after:
        assert (world.folder / "out" / line["file_name"]).stat().st_size == line["size"]
    assert world.run("verify", "out", env=KEYLESS).code == 0
    assert world.run("verify", "out").code == 2, "the real service knows nothing of it"


def test_a_stopped_verify_says_so_and_keeps_what_was_fetched(open_world: OpenWorld) -> None:
    """A signal: 130, one document, the command that begins again; that one mends the rest."""
    world = open_world()
    made(world, 2)
    (world.folder / "out/videos/row0.mp4").unlink()
    world.go_wrong(FaultPlan.of(Fault("download", "stalled")))
    running = world.start("verify", "out", "--json")
    world.until_called("download", 3)
    running.send(signal.SIGINT)
    ended = running.finish()
    assert (ended.code, ended.document["error"]) == (130, "Stopped")
    assert "kling-async verify out --json" in ended.err
    world.go_wrong(FaultPlan())
    assert world.run("verify", "out").code == 0
    world.audit()


def test_a_journal_elsewhere_is_found_by_the_folder(world: World) -> None:
    """As `retry` does."""
    made(world, 1, "--journal", "disk/j.db")
    assert world.run("verify", "out").code == 0
    assert json.loads(world.run("verify", "out", "--journal", "disk/j.db", "--json").out)["whole"] == 1
