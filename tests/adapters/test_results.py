"""The result files: a view of the journal that `datasets` reads, and a list of failures that `run` takes back."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import resource
from collections.abc import AsyncIterator, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kling_async.adapters.images import LocalImages
from kling_async.adapters.manifest import read_manifest
from kling_async.adapters.result_rows import video_line
from kling_async.adapters.results import FolderResults
from kling_async.errors import ConfigurationError, DiskFull
from kling_async.rules.identity import written_digest
from kling_async.rules.naming import file_stem, place_of
from kling_async.simulator.clips import read_template
from kling_async.types.image import ImageKind, ImageSource
from kling_async.types.record import Record, Stage, Trouble
from kling_async.types.request import DynamicMask, ImageToVideo, Point

if TYPE_CHECKING:
    CancelEverywhere = Any

pytestmark = [pytest.mark.looptime]

URL = "https://example.com/a.png"
CLIP = read_template(5)
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(100)
OURS = [
    *("file_name", "key", "prompt", "negative_prompt", "duration", "seconds", "cfg_scale", "image", "tail_image"),
    *("generation_id", "size", "sha256", "model", "usd", "sample"),
]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
async def results(out: Path) -> AsyncIterator[FolderResults]:
    door = FolderResults(out)
    yield door
    await door.aclose()


def done(key: str, request: ImageToVideo | None = None, **values: Any) -> Record:
    request = request or ImageToVideo(URL, "go", key=key)
    record = Record(key, f"{file_stem(key)}.mp4", request, written_digest(request), Stage.DONE)
    return evolve(
        record,
        **{"generation_id": f"g-{key}", "size": 5, "sha256": "ab", "seconds": 5.04, "credits": 520_000, **values},
    )


def failed(request: ImageToVideo, key: str = "k", stage: Stage = Stage.FAILED) -> Record:
    trouble = Trouble("GenerationFailed", "the service could not")
    return Record(key, f"{key}.mp4", request, written_digest(request), stage, trouble=trouble)


def numbered(out: Path, *keys: str, first: int = 1) -> list[tuple[int, Record, Path]]:
    records = [done(key) for key in keys]
    return [(number, record, out / "videos" / record.name) for number, record in enumerate(records, first)]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def keys(out: Path) -> list[str]:
    """Return the keys in the metadata; none where there is no file."""
    path = out / "metadata.jsonl"
    return [line["key"] for line in lines(path)] if path.exists() else []


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def store(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


class TestMetadata:
    """One line for each row that is DONE."""

    async def test_a_line_tells_what_was_asked_and_what_came(self, results: FolderResults, out: Path) -> None:
        """The file's name first, then what is always there, then what was carried."""
        request = ImageToVideo(
            ImageSource.of("img/a.png", base="/data"),
            "go",
            tail_image=PNG,
            negative_prompt="stop",
            cfg_scale=1,
            key="a/b",
            carry={"scene": "7"},
        )
        await results.resume(None)
        await results.add([(1, done("a/b", request), out / "videos" / "x.mp4")])

        (line,) = lines(out / "metadata.jsonl")
        assert list(line) == [*OURS, "scene"]
        assert line == {
            "file_name": "videos/x.mp4",
            "key": "a/b",
            "prompt": "go",
            "negative_prompt": "stop",
            "duration": 5,
            "seconds": 5.04,
            "cfg_scale": 1.0,
            "image": "img/a.png",
            "tail_image": f"sha256:{hashlib.sha256(PNG).hexdigest()}",
            "generation_id": "g-a/b",
            "size": 5,
            "sha256": "ab",
            "model": request.model,
            "usd": 0.26,
            "sample": None,
            "scene": "7",
        }

    def test_absent_fields_are_null(self) -> None:
        """Every line has the same columns; numbers that may be fractions are always written as such."""
        bare = json.loads(video_line(done("a", ImageToVideo(URL), seconds=None, credits=None), "a.mp4"))
        whole = video_line(done("a", ImageToVideo(URL, cfg_scale=1), seconds=5, credits=2_000_000), "a.mp4")

        assert list(bare) == OURS
        assert {name for name, value in bare.items() if value is None} == {
            *("prompt", "negative_prompt", "seconds", "cfg_scale", "tail_image", "usd", "sample")
        }
        assert all(text in whole for text in (b'"seconds": 5.0', b'"cfg_scale": 1.0', b'"usd": 1.0'))

    @pytest.mark.parametrize(
        ("carry", "written"),
        [
            ({"a": "x", "b": 1, "c": 1.5, "d": True}, {"a": "x", "b": "1", "c": "1.5", "d": "true"}),
            ({"a": None, "b": [1, "é"], "c": {"d": 1}}, {"a": None, "b": '[1, "é"]', "c": '{"d": 1}'}),
            ({"a": Path("/x"), "b": float("nan"), "c": b"x"}, {"a": '"/x"', "b": "NaN", "c": "\"b'x'\""}),
            ({"key": "x", "file_name": "y", "video": "z"}, {"key_": "x", "file_name_": "y", "video_": "z"}),
            ({"x_file_name": "x", "x_file_name_": "y"}, {"x_file_name__": "x", "x_file_name_": "y"}),
            ({"key": "x", "key_": "y", "key__": "z"}, {"key___": "x", "key_": "y", "key__": "z"}),
            ({"usd": 1, "_x": 2, "": 3}, {"usd_": "1", "_x": "2", "": "3"}),
        ],
    )
    def test_carried_columns_are_text_under_names_of_their_own(
        self, carry: Mapping[str, object], written: Mapping[str, object]
    ) -> None:
        """Whatever they were, and whatever they were called."""
        line = json.loads(video_line(done("a", ImageToVideo(URL, carry=carry)), "a.mp4"))

        assert {name: value for name, value in line.items() if name not in OURS} == written

    def test_what_is_no_text_is_written_all_the_same(self) -> None:
        """A path of bytes, or half a character, must not end a run."""
        request = ImageToVideo(ImageSource(ImageKind.PATH, "caf\udce9.png"), carry={"a": "\ud800"})
        line = video_line(done("a", request), "a.mp4")

        assert json.loads(line)["image"] == "caf?.png"

    async def test_names_of_other_scripts_stay_readable(self, results: FolderResults, out: Path) -> None:
        """The file is for people too."""
        await results.resume(None)
        await results.add(numbered(out, "日本"))

        assert "日本".encode() in (out / "metadata.jsonl").read_bytes()

    async def test_lines_stand_in_the_order_of_ends(self, results: FolderResults, out: Path) -> None:
        """Call after call."""
        await results.resume(None)
        await results.add(numbered(out, "a", "b"))
        await results.add(numbered(out, "c", first=3))

        assert keys(out) == ["a", "b", "c"]

    async def test_a_row_is_added_once(self, results: FolderResults, out: Path) -> None:
        """A call whose end nobody saw may be made again."""
        await results.resume(None)
        first = await results.add(numbered(out, "a", "b"))
        again = await results.add(numbered(out, "a", "b"))
        await results.add(numbered(out, "a", "b", "c"))

        assert first == again
        assert keys(out) == ["a", "b", "c"]

    async def test_nothing_is_made_before_the_first_line(self, results: FolderResults, out: Path) -> None:
        """No file stands while it would be empty."""
        await results.resume(None)
        await results.add([])
        await results.write_failures(few([]))

        assert names(out) == []

    async def test_resume_comes_first(self, results: FolderResults, out: Path) -> None:
        """Without it nobody knows where the lines go on; that is a fault of the program."""
        with pytest.raises(RuntimeError, match="resume"):
            await results.add(numbered(out, "a"))

    async def test_cancelling_leaves_whole_lines(
        self, results: FolderResults, out: Path, cancel_everywhere: CancelEverywhere
    ) -> None:
        """Each once, in order; what was noted is the truth about how many count."""
        position: str | None = None

        async def scenario() -> None:
            nonlocal position
            await results.resume(position)
            for number, key in enumerate("abc", 1):
                position = await results.add(numbered(out, key, first=number))

        async def check() -> None:
            nonlocal position
            settled = await results.add(numbered(out, *"abc"))
            assert keys(out) == ["a", "b", "c"]
            assert settled
            position = None

        assert await cancel_everywhere(scenario, check) == 4


class TestResume:
    """The metadata are made good from the journal after whatever happened."""

    async def start(self, results: FolderResults, out: Path) -> list[str]:
        """Write three lines, and return the positions noted after each."""
        await results.resume(None)
        return [await results.add(numbered(out, key, first=number)) for number, key in enumerate("abc", 1)]

    async def test_what_was_noted_is_kept(self, results: FolderResults, out: Path) -> None:
        """The number of the last row comes back, and lines go on behind it."""
        position = (await self.start(results, out))[-1]
        later = FolderResults(out)
        number = await later.resume(position)
        await later.add(numbered(out, "d", first=4))
        await later.aclose()

        assert number == 3
        assert keys(out) == ["a", "b", "c", "d"]

    async def test_what_was_not_noted_is_cut(self, results: FolderResults, out: Path) -> None:
        """Whole lines and an unfinished one alike: the journal tells them again."""
        position = (await self.start(results, out))[0]
        append(out / "metadata.jsonl", b'{"file_name": "videos/unfin')

        assert await results.resume(position) == 1
        assert keys(out) == ["a"]

    async def test_what_a_killed_process_left_is_removed(self, results: FolderResults, out: Path) -> None:
        """A list that was being written then."""
        store(out / ".failures.jsonl.1.0123456789abcdef.part", b"{")
        await results.resume(None)

        assert names(out) == []

    @pytest.mark.parametrize("position", [None, "", "null", "[]", "3", "x", '{"bytes": 5}', '{"bytes": null}'])
    async def test_without_a_position_it_is_begun_again(
        self, results: FolderResults, out: Path, position: str | None
    ) -> None:
        """Lines that nobody noted may be missing some; an unreadable note is none."""
        await self.start(results, out)

        assert await results.resume(position) == 0
        assert "metadata.jsonl" not in names(out)

    @pytest.mark.parametrize("edit", ["deleted", "shorter", "longer", "other"])
    async def test_an_edited_file_is_begun_again(self, results: FolderResults, out: Path, edit: str) -> None:
        """All its lines are told again by the journal."""
        position = (await self.start(results, out))[-1]
        path = out / "metadata.jsonl"
        content = path.read_bytes()
        path.unlink()
        if edit != "deleted":
            changed = {"shorter": content[:-5], "longer": b"{}\n" + content, "other": content.replace(b"g-c", b"g-x")}
            append(path, changed[edit])

        assert await results.resume(position) == 0
        assert keys(out) == []

    @pytest.mark.parametrize("edit", ["deleted", "longer"])
    async def test_an_edit_during_the_run_is_made_good_at_the_next(
        self, results: FolderResults, out: Path, edit: str
    ) -> None:
        """Lines go on at the end of what is there; the position then fits no file."""
        await self.start(results, out)
        if edit == "deleted":
            (out / "metadata.jsonl").unlink()
        else:
            append(out / "metadata.jsonl", b'{"key": "mine"}\n')
        position = await results.add(numbered(out, "d", first=4))

        assert keys(out)[-1] == "d"
        assert await results.resume(position) == 0


class TestReadme:
    """What makes `datasets` read the folder."""

    async def test_it_comes_with_the_first_line(self, results: FolderResults, out: Path) -> None:
        """Its front matter names the files, its text the call."""
        await results.resume(None)
        await results.add(numbered(out, "a"))

        text = (out / "README.md").read_text("utf-8")
        assert 'datasets.load_dataset("' in text
        assert '    - metadata.jsonl\n    - "videos/**"\n' in text

    async def test_one_that_stands_there_is_left_alone(self, results: FolderResults, out: Path) -> None:
        """The user's own, from before the run or from between two."""
        store(out / "README.md", b"mine")
        await results.resume(None)
        await results.add(numbered(out, "a"))

        assert (out / "README.md").read_bytes() == b"mine"

    async def test_one_that_was_removed_stays_away(self, results: FolderResults, out: Path) -> None:
        """It is written with the first line alone."""
        await results.resume(None)
        await results.add(numbered(out, "a"))
        (out / "README.md").unlink()
        await results.add(numbered(out, "b", first=2))

        assert "README.md" not in names(out)


def given_requests(folder: Path) -> dict[str, ImageToVideo]:
    base = str(folder)
    points = (Point(1, 2), Point(3, 4))
    return {
        "path": ImageToVideo(ImageSource.of("img/a.png", base=base), "go", carry={"scene": "7"}),
        "dots": ImageToVideo(ImageSource.of("../data/./img//a.png", base=base)),
        "absolute": ImageToVideo(ImageSource.of(str(folder / "img" / "a.png"), base="/elsewhere")),
        "url": ImageToVideo(URL, tail_image="http://example.com/b.png", model="other/model"),
        "masks": ImageToVideo(
            ImageSource.of("img/a.png", base=base),
            duration=10,
            negative_prompt="no",
            cfg_scale=0.3,
            static_mask=ImageSource.of("img/a.png", base=base),
            dynamic_masks=[DynamicMask(ImageSource.of("img/a.png", base=base), points)],
            extra={"camera_control": {"type": "down"}},
        ),
        "bytes": ImageToVideo(PNG),
        "like a URL": ImageToVideo(ImageSource(ImageKind.PATH, "data:x/a.png", base)),
        "no text": ImageToVideo(ImageSource(ImageKind.PATH, "caf\udce9.png", base)),
        "carried": ImageToVideo(
            URL, carry={"prompt": 1, "promt": 2, "_x": [3], "": None, "own": {"a": 1}, "none": None, "nul\0": 4}
        ),
    }


GIVEN = list(given_requests(Path("/")))


class TestFailures:
    """The list of failed and set-aside rows is a manifest."""

    @pytest.mark.parametrize("name", GIVEN)
    async def test_a_row_comes_back_as_it_was_written(
        self, results: FolderResults, out: Path, tmp_path: Path, name: str
    ) -> None:
        """Same digest, same key, same carried data, and the same files: nobody edited it."""
        request = given_requests(tmp_path / "data")[name]
        await results.write_failures(few([failed(request)]))

        (row,) = read_manifest(out / "failures.jsonl")
        assert row.errors == ()
        assert row.request is not None
        assert written_digest(row.request) == written_digest(request)
        assert (row.request.key, row.request.carry) == ("k", request.carry)
        assert [place(source) for _, source in row.request.images] == [place(source) for _, source in request.images]

    async def test_kept_images_come_back_as_such(self, results: FolderResults, out: Path, tmp_path: Path) -> None:
        """By the digest of their bytes, and they are found, from any other folder too."""
        images = LocalImages(out / ".kling" / "inputs")
        kept = await images.keep(ImageSource.of(PNG))
        await results.write_failures(few([failed(ImageToVideo(kept))]))
        (row,) = read_manifest(out / "failures.jsonl")
        elsewhere = LocalImages(tmp_path / "elsewhere")

        assert row.request is not None
        assert written_digest(row.request) == written_digest(ImageToVideo(PNG))
        found = [await door.state(row.request.image) for door in (images, elsewhere)]
        assert [state.size for state in found] == [len(PNG)] * 2
        await images.aclose()
        await elsewhere.aclose()

    async def test_a_path_is_found_from_the_folder(self, results: FolderResults, out: Path, tmp_path: Path) -> None:
        """By whoever reads the list, also where a link leads to it."""
        store(tmp_path / "deep" / "disk" / "x", b"")
        link(out, tmp_path / "deep" / "disk")
        store(tmp_path / "data" / "a.png", PNG)
        await results.write_failures(few([failed(ImageToVideo(ImageSource.of("a.png", base=str(tmp_path / "data"))))]))

        (line,) = lines(out / "failures.jsonl")
        assert line["image"] == "../../data/a.png"
        assert (out / line["image"]).read_bytes() == PNG

    async def test_reasons_stand_beside_the_row(self, results: FolderResults, out: Path) -> None:
        """In columns that a manifest leaves out."""
        record = failed(ImageToVideo(URL, "go", carry={"scene": "7"}), stage=Stage.SUBMITTED)
        await results.write_failures(few([evolve(record, generation_id="g", client_request_id="ka1.x")]))

        (line,) = lines(out / "failures.jsonl")
        assert line == {
            "key": "k",
            "image": URL,
            "prompt": "go",
            "duration": 5,
            "model": record.request.model,
            "scene": "7",
            "_stage": "submitted",
            "_error": "GenerationFailed",
            "_message": "the service could not",
            "_generation_id": "g",
            "_client_request_id": "ka1.x",
        }

    async def test_the_list_is_replaced(self, results: FolderResults, out: Path) -> None:
        """It tells how many there are, and goes when there are none; nothing stays beside it."""
        request = ImageToVideo(URL)
        counts = [await results.write_failures(few(failed(request, str(number)) for number in range(3)))]
        counts.append(await results.write_failures(few([failed(request, "x")])))
        found = [line["key"] for line in lines(out / "failures.jsonl")], names(out)
        counts.append(await results.write_failures(few([])))

        assert counts == [3, 1, 0]
        assert found == (["x"], ["failures.jsonl"])
        assert names(out) == []

    async def test_cancelling_leaves_a_whole_list(
        self, results: FolderResults, out: Path, cancel_everywhere: CancelEverywhere
    ) -> None:
        """The old one or the new one."""

        async def scenario() -> None:
            await results.write_failures(few([failed(ImageToVideo(URL), str(number)) for number in range(100)]))

        async def check() -> None:
            await results.resume(None)
            assert names(out) == ["failures.jsonl"]
            assert len(lines(out / "failures.jsonl")) in {1, 100}

        await results.write_failures(few([failed(ImageToVideo(URL))]))
        await cancel_everywhere(scenario, check)

    async def test_an_error_while_listing_leaves_the_old_list(self, results: FolderResults, out: Path) -> None:
        """The journal may break off."""

        async def broken() -> Any:
            yield [failed(ImageToVideo(URL), "a")]
            raise ZeroDivisionError

        await results.write_failures(few([failed(ImageToVideo(URL), "old")]))
        with pytest.raises(ZeroDivisionError):
            await results.write_failures(broken())

        assert [line["key"] for line in lines(out / "failures.jsonl")] == ["old"]
        assert names(out) == ["failures.jsonl"]
        assert names(out) == ["failures.jsonl"]


def place(source: ImageSource) -> object:
    """Return which file, address or content a source means."""
    path = os.path.normpath(Path(source.base, source.text)) if source.kind is ImageKind.PATH else source.text
    return source.kind, path, source.content


CARRIED = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.floats() | st.text(), max_size=4)


@given(st.text(min_size=1), CARRIED)
def test_any_line_can_be_read_by_the_strictest_reader(prompt: str, carry: dict[str, object]) -> None:
    """Text of any kind, one line, no name twice."""
    line = video_line(done("a", ImageToVideo(URL, prompt, carry=carry)), "a.mp4")
    found = json.loads(line.decode(), object_pairs_hook=lambda pairs: pairs)

    assert line.count(b"\n") == 1
    assert len(found) == len({name for name, _ in found}) == len(OURS) + len(carry)


@pytest.mark.parametrize("work", ["resume", "failures"])
async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, work: str) -> None:
    """As a fault of the folder, with the file's name; what to do next stands there too."""
    append(tmp_path / "out", b"a file")
    results = FolderResults(tmp_path / "out")

    with pytest.raises(ConfigurationError, match=r"jsonl cannot be written .*: mend that and run again"):
        await (results.write_failures(few([failed(ImageToVideo(URL))])) if work == "failures" else results.resume(None))
    await results.aclose()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
async def test_a_full_disk_is_told_as_such(results: FolderResults, out: Path) -> None:
    """No line is half written; after making room the same call goes on."""
    await results.resume(None)
    await results.add(numbered(out, "a"))
    (out / "metadata.jsonl").rename(out / "saved")
    link(out / "metadata.jsonl", Path("/dev/full"))
    with pytest.raises(DiskFull, match="make room"):
        await results.add(numbered(out, "b", first=2))
    (out / "saved").replace(out / "metadata.jsonl")
    position = await results.add(numbered(out, "b", first=2))

    assert keys(out) == ["a", "b"]
    assert await results.resume(position) == 2


async def test_no_line_is_half_written(results: FolderResults, out: Path) -> None:
    """A call that failed in the middle of a line leaves the file as it was."""
    await results.resume(None)
    await results.add(numbered(out, "a"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ConfigurationError):
            await results.add(numbered(out, *"bcd", first=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert keys(out) == ["a"]


KEYS = ["test", "train_1", "a/b", "日本"]
CARRY: list[Mapping[str, object]] = [
    {"split": "train", "label": "x", "score": 1, "seen": "2024-05-01"},
    {"split": "test", "label": 5, "score": 2.5, "seen": None, "video": "mine"},
    {"split": "a", "label": [1, 2], "score": "high", "seen": True, "other_file_name": "x.png"},
    {"split": "b", "label": {"a": 1}, "score": None, "late": "only here"},
]


async def few(records: Iterable[Record]) -> AsyncIterator[list[Record]]:
    """Hand records over a few at a time, as the journal's pages come."""
    rest = iter(records)
    while some := list(islice(rest, 40)):
        yield some


@pytest.fixture
async def finished(results: FolderResults, out: Path) -> Path:
    """Return a folder with four videos, and what else lies in such a folder."""
    await results.resume(None)
    for number, (key, carry) in enumerate(zip(KEYS, CARRY, strict=True), 1):
        place = place_of(key, folders=number % 2 == 0)  # some rows came before the job was a large one
        record = done(key, ImageToVideo(URL, "go" if number > 1 else None, key=key, carry=carry), name=place)
        store(out / "videos" / record.name, CLIP.stamped(key))
        await results.add([(number, record, out / "videos" / record.name)])
    await results.write_failures(few([failed(ImageToVideo(URL))]))
    store(out / "videos" / ".x.mp4.1.0123456789abcdef.part", b"unfinished")
    store(out / ".kling" / "journal.db", b"")
    return out


def load(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Read a folder as the README says, without a network."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(cache))
    datasets: Any = importlib.import_module("datasets")  # It takes seconds, and reads the environment.
    found = datasets.load_dataset(str(folder), cache_dir=str(cache))
    return found.cast_column("video", datasets.Video(decode=False))


@pytest.mark.filterwarnings("default")
def test_datasets_reads_the_folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row, in one split, whatever its key and its carried data are."""
    found = load(finished, tmp_path / "cache", monkeypatch)

    assert list(found) == ["train"]
    rows = list(found["train"])
    assert [row["key"] for row in rows] == KEYS
    assert [Path(row["video"]["path"]).read_bytes() for row in rows] == [CLIP.stamped(key) for key in KEYS]
    assert [row["label"] for row in rows] == ["x", "5", "[1, 2]", '{"a": 1}']
    assert [row["score"] for row in rows] == ["1", "2.5", "high", None]
    assert [row["prompt"] for row in rows] == [None, "go", "go", "go"]
    assert [row["video_"] for row in rows] == [None, "mine", None, None]
    assert [row["other_file_name_"] for row in rows] == [None, None, "x.png", None]
    assert [row["late"] for row in rows] == [None, None, None, "only here"]
    assert {row["usd"] for row in rows} == {0.26}
