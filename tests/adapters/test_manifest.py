"""A manifest's rows: read lazily, every fault with its line and column, nothing guessed."""

from __future__ import annotations

import base64
import json
import os
import resource
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kling_async.adapters.columns import FIELDS, find_meant
from kling_async.adapters.drafts import Drafts, Repeated
from kling_async.adapters.manifest import check_files, look_at_files, read_manifest
from kling_async.adapters.manifest_rows import Row, parse_json
from kling_async.errors import ManifestError
from kling_async.rules.identity import request_of, written_digest
from kling_async.types.image import ImageKind, ImageSource
from kling_async.types.record import Draft
from kling_async.types.request import DynamicMask, ImageToVideo, Point

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(100)
MISSPELT = {
    "promt": "prompt",
    "pormpt": "prompt",
    "prompts": "prompt",
    "Prompt": "prompt",
    " prompt": "prompt",
    "Image": "image",
    "imgae": "image",
    "images": "image",
    "imageUrl": "image_url",
    "image-url": "image_url",
    "image_uri": "image_url",
    "tail image": "tail_image",
    "tail_img": "tail_image",
    "duraton": "duration",
    "durations": "duration",
    "Duration": "duration",
    "negativ_prompt": "negative_prompt",
    "negativ_promt": "negative_prompt",
    "cfgscale": "cfg_scale",
    "cfg_sclae": "cfg_scale",
    "static_masks": "static_mask",
    "dynamic_mask": "dynamic_masks",
    "Key": "key",
    "ID": "id",
    "customId": "custom_id",
    "modell": "model",
    "extras": "extra",
}
# fmt: off
OWN = [
    "split", "scene", "label", "labels", "images_source", "image_id", "image_path", "image_file", "image_2", "image2",
    "prompt_id", "prompt_en", "prompt2", "negative_prompt_en", "duration_s", "duration_ms", "model_id", "model_name",
    "mode", "ids", "idx", "index", "keys", "seed", "caption", "source", "title", "tag", "tags", "text", "url", "page",
    "style", "mask", "masks", "static", "width", "height", "license", "notes", "extra_info", "frame", "video", "size",
    "sha256", "file_name", "説明", "prompt_日本",
]
# fmt: on


def rows(path: Path) -> list[Row]:
    return list(read_manifest(path))


def table(tmp_path: Path, text: str | bytes, name: str = "manifest.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def lines(tmp_path: Path, *objects: object) -> Path:
    return table(tmp_path, "".join(f"{json.dumps(one)}\n" for one in objects), "manifest.jsonl")


def faults(path: Path) -> list[str]:
    """Return what is said of a manifest's rows."""
    return [str(error) for row in rows(path) for error in row.errors]


def request(row: Row) -> ImageToVideo:
    assert row.errors == ()
    assert row.request is not None
    return row.request


def requests(path: Path) -> list[ImageToVideo]:
    return [request(row) for row in rows(path)]


def place(path: Path) -> str:
    return str(path.parent)


FULL = {
    "key": "one",
    "image": "img/a.png",
    "prompt": "go",
    "tail_image": "https://example.com/b.png",
    "duration": "10",
    "negative_prompt": "stop",
    "cfg_scale": "0.25",
    "static_mask": "m.png",
    "dynamic_masks": '[{"mask": "d.png", "trajectories": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}]',
    "model": "another/model",
    "extra": '{"camera_control": {"type": "down"}}',
    "scene": "7",
}


def full_request(folder: str) -> ImageToVideo:
    return ImageToVideo(
        ImageSource.of("img/a.png", base=folder),
        "go",
        tail_image="https://example.com/b.png",
        duration=10,
        negative_prompt="stop",
        cfg_scale=0.25,
        static_mask=ImageSource.of("m.png", base=folder),
        dynamic_masks=[DynamicMask(ImageSource.of("d.png", base=folder), (Point(1, 2), Point(3, 4)))],
        model="another/model",
        key="one",
        carry={"scene": "7"},
        extra={"camera_control": {"type": "down"}},
    )


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "ndjson", "semicolons"])
def test_every_kind_gives_the_same_request(tmp_path: Path, kind: str) -> None:
    """All columns, with their types; paths start at the manifest's folder."""
    delimiter = {"tsv": "\t", "semicolons": ";"}.get(kind, ",")
    if "json" in kind:
        text = json.dumps(FULL)
    else:
        quoted = ['"' + value.replace('"', '""') + '"' for value in FULL.values()]
        text = f"{delimiter.join(FULL)}\r\n{delimiter.join(quoted)}\r\n"
    path = table(tmp_path, text, f"manifest.{'csv' if kind == 'semicolons' else kind}")

    (row,) = rows(path)

    assert request(row) == full_request(place(path))
    assert row.line == (1 if "json" in kind else 2)


def test_objects_have_their_own_types(tmp_path: Path) -> None:
    """Numbers, lists and objects need no quotes; a number may be a key; null is absent."""
    masks = [{"mask": "d.png", "trajectories": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}]
    path = lines(
        tmp_path,
        {"id": 17, "image_url": "a.png", "duration": 5, "cfg_scale": 1, "prompt": None, "tail_image_url": ""},
        {"custom_id": "x", "image": "a.png", "dynamic_masks": masks, "extra": {"a": [1]}, "tags": ["x"], "none": None},
    )

    first, second = requests(path)

    assert (first.key, first.duration, first.cfg_scale, first.prompt, first.tail_image) == ("17", 5, 1.0, None, None)
    assert second.dynamic_masks == (DynamicMask.of(masks[0], base=place(path)),)
    assert (second.key, second.extra, second.carry) == ("x", {"a": [1]}, {"tags": ["x"], "none": None})


@pytest.mark.parametrize(("name", "kind"), [("rows", "csv"), ("rows.txt", "csv"), ("rows", "json"), ("a.CSV", "csv")])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_without_a_known_ending_the_first_character_tells(tmp_path: Path, name: str, kind: str, mark: bytes) -> None:
    """A brace begins JSON; a byte order mark is passed over."""
    text = b'{"image": "a.png"}\n' if kind == "json" else b"image\na.png\n"

    assert requests(table(tmp_path, mark + text, name))[0].image.text == "a.png"


def test_empty_cells_are_absent(tmp_path: Path) -> None:
    """The defaults hold; an empty cell of the caller's own column stays an empty text."""
    path = table(tmp_path, "image,prompt,duration,cfg_scale,dynamic_masks,key,scene\na.png,,,,,,\n")

    assert requests(path) == [ImageToVideo(ImageSource.of("a.png", base=place(path)), carry={"scene": ""})]


def test_columns_of_a_report_are_left_out(tmp_path: Path) -> None:
    """Those that begin with `_`, and those without a name, such as the index that pandas writes."""
    path = table(tmp_path, ",image,_error,_duraton\n0,a.png,GenerationFailed,x\n")

    assert requests(path)[0].carry == {}


@pytest.mark.parametrize("text", ["5.0", "5.000", "5", " 5 "])
def test_a_whole_number_may_be_written_as_a_fraction(tmp_path: Path, text: str) -> None:
    """As pandas does in a column with gaps."""
    assert requests(table(tmp_path, f"image,duration\na.png,{text}\n"))[0].duration == 5


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    """A row stands where it begins, behind cells of many lines, blank lines and rows without text."""
    text = 'image,prompt\r\n\r\na.png,"one\r\ntwo\n\nthree"\n,\nb.png,x\r\nc.png,"\n"\nd.png,y'
    found = rows(table(tmp_path, text))

    assert [(row.line, request(row).image.text) for row in found] == [
        (3, "a.png"),
        (8, "b.png"),
        (9, "c.png"),
        (11, "d.png"),
    ]
    assert request(found[0]).prompt == "one\r\ntwo\n\nthree"


def test_blank_lines_between_objects_are_passed_over(tmp_path: Path) -> None:
    """They count as lines."""
    found = rows(table(tmp_path, '\n{"image": "a"}\n \t\n\n{"image": "b\\u2028c"}', "m.jsonl"))

    assert [row.line for row in found] == [2, 5]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_every_end_of_line_is_known(tmp_path: Path, ends: str) -> None:
    """Of Unix, Windows and old Macs."""
    path = table(tmp_path, ends.join(["image,prompt", "a.png,x", "b.png,y", ""]))

    assert [row.line for row in rows(path)] == [2, 3]


def test_all_faults_of_a_row_are_told_at_once(tmp_path: Path) -> None:
    """Each with its line and the column's name as written; the rows around it are read."""
    text = (
        "image_url,duration,cfg_scale,dynamic_masks,extra,id\n"
        "a.png,5,0.5,,,one\n"
        'ftp://host/a.png,7,2,[1],"{""prompt"": 1}",two\n'
        ",10s,half,{,nonsense,three\n"
        "b.png,5,0.5,,,four\n"
    )
    found = rows(table(tmp_path, text))

    assert [row.request is None for row in found] == [False, True, True, False]
    assert {(error.line, error.field) for row in found for error in row.errors} == {
        (3, "image_url"),
        (3, "duration"),
        (3, "cfg_scale"),
        (3, "dynamic_masks[0]"),
        (3, "extra"),
        (4, "image_url"),
        (4, "duration"),
        (4, "cfg_scale"),
        (4, "dynamic_masks"),
        (4, "extra"),
    }
    assert "line 3, duration: must be 5 or 10 (seconds), not 7" in [str(error) for error in found[1].errors]


@pytest.mark.parametrize(("name", "meant"), MISSPELT.items())
def test_a_misspelt_column_is_an_error(tmp_path: Path, name: str, meant: str) -> None:
    """Of the header's line, and not a thousand times; in objects, of each line."""
    other = "image_url" if meant == "image" else "image"
    one = "x" if "image" not in meant else "b.png"
    said = faults(table(tmp_path, f"{other},{name}\n" + f"a.png,{one}\n" * 3))

    assert [text for text in said if "did you mean" in text] == said[:1]
    assert said[0].startswith(f"line 1, {name}: did you mean {meant}?")
    assert f"did you mean {meant}?" in faults(lines(tmp_path, {other: "a.png", name: one}))[0]


@pytest.mark.parametrize("name", OWN)
def test_a_column_of_the_callers_own_passes(tmp_path: Path, name: str) -> None:
    """Names that people really use are carried."""
    assert requests(table(tmp_path, f"image,{name}\na.png,x\n"))[0].carry == {name: "x"}


@given(st.sampled_from(sorted(name for name in FIELDS if len(name) > 4)), st.data())
@example("prompt", None)
def test_one_letter_more_or_less_is_noticed(name: str, data: st.DataObject | None) -> None:
    """Wherever it is, and whichever."""
    at = data.draw(st.integers(0, len(name) - 1)) if data else 0
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz_")) if data else "x"

    for wrong in (name[:at] + name[at + 1 :], name[:at] + letter + name[at:], name[:at] + letter + name[at + 1 :]):
        own = wrong in FIELDS or wrong.replace("_", "") in {"mode", "modes", "modal", "simple", "ample"}
        assert own or find_meant(wrong) is not None


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("prompt,key", ["line 1, image: is missing: the header has no such column"]),
        ("image,prompt,prompt", ["line 1, prompt: says the same as prompt: keep one of the two"]),
        ("image,scene,scene", ["line 1, scene: stands twice: keep one of the two"]),
        ("image,image_url", ["line 1, image_url: says the same as image: keep one of the two"]),
        ("image,key,id", ["line 1, id: says the same as key: keep one of the two"]),
        (
            "image,tail_image,tail_image_url,promt",
            [
                "line 1, tail_image_url: says the same as tail_image: keep one of the two",
                "line 1, promt: did you mean prompt? If the column is your own, give it another name",
            ],
        ),
    ],
)
def test_a_header_that_cannot_be_read_is_told_once(tmp_path: Path, header: str, said: list[str]) -> None:
    """No row is read by it."""
    assert faults(table(tmp_path, f"{header}\n" + "a,b,c,d\n" * 5)) == said


@pytest.mark.parametrize(
    ("one", "said"),
    [
        ({"prompt": "x"}, "line 1, image: is missing: every row needs an image"),
        ({"image": "a", "image_url": "b"}, "line 1, image_url: says the same as image: keep one of the two"),
        ({"image": 5}, "line 1, image: must be a URL, a data URI or a path, not int"),
        ({"image": "a", "prompt": 5}, "line 1, prompt: must be text, not int"),
        ({"image": "a", "duration": True}, "line 1, duration: must be 5 or 10 (seconds), not True"),
        ({"image": "a", "key": True}, "line 1, key: must be text of 1 to 500 characters"),
        ({"image": "a", "dynamic_masks": {}}, "line 1, dynamic_masks[0]: must be a list of masks"),
        ({"image": "a", "dynamic_masks": [5]}, "line 1, dynamic_masks[0]: must have exactly the fields mask and traj"),
        ({"image": "a", "extra": [1]}, "line 1, extra: must be a mapping"),
        ({"image": "a", "prompt": "nul\0byte"}, "line 1, prompt: holds a NUL character"),
        ({"image": "a", "scene": "nul\0byte"}, "line 1, scene: holds a NUL character"),
        ({"image": "a", "prompt": "\ud800"}, "line 1, prompt: holds half a character"),
        ([1], "line 1: must be a JSON object, not list"),
        ("text", "line 1: must be a JSON object, not str"),
    ],
)
def test_an_object_with_a_fault_is_told(tmp_path: Path, one: object, said: str) -> None:
    """By its line and field."""
    (found,) = faults(lines(tmp_path, one))

    assert found.startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"image": "a"', "is not JSON"),
        ('{"image": "a"} {"image": "b"}', "is not JSON"),
        ('{"image": "a", "image": "b"}', "has the name 'image' twice"),
        ('{"image": "a", "extra": {"b": 1, "b": 2}}', "has the name 'b' twice"),
        ('{"image": "a", "cfg_scale": NaN}', "holds NaN"),
        ('{"image": "a", "x": [-Infinity]}', "holds -Infinity"),
        ('{"image": "a", "x": 1e999}', "too large a number"),
        ('{"image": "a", "x": ' + "9" * 5000 + "}", "digits"),
        ('{"image": "a", "x": ' + "[" * 100_000, "nested too deep"),
        ("\ufeff{}", "is not JSON"),
    ],
)
def test_what_is_not_json_is_told(tmp_path: Path, text: str, said: str) -> None:
    """By its line; the lines around it are read."""
    path = table(tmp_path, '{"image": "a"}\n' + text + '\n{"image": "c"}\n', "m.jsonl")
    found = rows(path)

    assert [row.line for row in found] == [1, 2, 3]
    assert [len(row.errors) for row in found] == [0, 1, 0]
    assert said in str(found[1].errors[0])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a.png", "line 3: has 1 cells, and the header 2"),
        ("a.png,x,y", "line 3: has 3 cells, and the header 2"),
        ('a.png,"x"y', "line 3: is not CSV"),
        ("a.png,nul\0byte", "line 3, prompt: holds a NUL character"),
    ],
)
def test_a_row_that_does_not_fit_its_header_is_told(tmp_path: Path, row: str, said: str) -> None:
    """By its line; the rows around it are read."""
    found = rows(table(tmp_path, f"image,prompt\nb.png,x\n{row}\nc.png,z\n"))

    assert [one.request is None for one in found] == [False, True, False]
    assert str(found[1].errors[0]).startswith(said)


def test_a_quote_that_is_never_closed_does_not_swallow_the_rest(tmp_path: Path) -> None:
    """It is told where it begins."""
    said = faults(table(tmp_path, 'image,prompt\na.png,x\nb.png,"y\nc.png,z\nd.png,z\n'))

    assert said == ["line 3: a quote that begins here is never closed"]


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_bytes_that_are_no_text_are_told(tmp_path: Path, name: str) -> None:
    """By their line, in a table by their column too; the rows around it are read."""
    if name == "m.csv":
        content = b"image,prompt\na.png,x\nb.png,caf\xe9\nc.png,caf\xc3\xa9\n"
    else:
        content = b'\n{"image": "a"}\n{"image": "caf\xe9"}\n{"image": "caf\xc3\xa9"}\n'
    found = rows(table(tmp_path, content, name))

    assert [row.request is None for row in found] == [False, True, False]
    assert [str(error) for error in found[1].errors] == [
        f"line 3{', prompt' * (name == 'm.csv')}: holds bytes that are not UTF-8: save the manifest as UTF-8"
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("image,prompt\na,b".encode("utf-16"), "is UTF-16: save it as UTF-8"),
        (b"PK\x03\x04" + bytes(100), "is a spreadsheet or a ZIP file: save it as CSV"),
        (b"\x1f\x8b" + bytes(100), "is compressed"),
        (b"", "holds no rows"),
        (b"\n\n\n", "holds no rows"),
        (b"image,prompt\n", "holds no rows"),
        (b"\xef\xbb\xbf", "holds no rows"),
    ],
)
@pytest.mark.parametrize("name", ["m.csv", "m"])
def test_a_file_that_is_no_manifest_is_told(tmp_path: Path, content: bytes, said: str, name: str) -> None:
    """By its name, without a line."""
    with pytest.raises(ManifestError, match=said) as caught:
        rows(table(tmp_path, content, name))

    assert caught.value.line is None
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("kind", ["missing", "loop"])
def test_a_manifest_that_cannot_be_opened_is_told(tmp_path: Path, kind: str) -> None:
    """With the system's reason."""
    path = tmp_path / "manifest.csv"
    if kind == "loop":
        path.symlink_to(path)

    with pytest.raises(ManifestError, match=r"manifest\.csv cannot be read: "):
        rows(path)


def test_a_manifest_of_blank_objects_is_empty(tmp_path: Path) -> None:
    """Blank lines are no rows."""
    with pytest.raises(ManifestError, match="holds no rows"):
        rows(table(tmp_path, "\n \n", "m.jsonl"))


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_a_cell_may_hold_a_whole_image(tmp_path: Path, name: str) -> None:
    """As a data URI of 10 MB."""
    image = PNG + bytes(10 * 1024 * 1024)
    data = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    text = json.dumps({"image": data}) if name == "m.jsonl" else f'image,prompt\n"{data}",x\n'

    assert requests(table(tmp_path, text, name))[0].image.content == image


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_rows_are_read_one_by_one(tmp_path: Path, name: str) -> None:
    """A file of 10 MB goes through less than one."""
    prompt = "p" * 5000
    row = f"a.png,{prompt}\n" if name == "m.csv" else json.dumps({"image": "a.png", "prompt": prompt}) + "\n"
    path = table(tmp_path, "image,prompt\n" * (name == "m.csv") + row * 2000, name)
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_manifest(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == 2000
    assert peak < 1_000_000


def test_the_first_rows_come_before_the_last_is_looked_at(tmp_path: Path) -> None:
    """A fault at the end does not hold them up."""
    path = table(tmp_path, "image\n" + "a.png\n" * 100_000 + '"b.png\n')

    assert [row.line for row in islice(read_manifest(path), 3)] == [2, 3, 4]


def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    """It is opened once and never rewound."""
    read, write = os.pipe()
    os.write(write, b'{"image": "a.png"}\n{"image": "b.png"}\n')
    os.close(write)
    try:
        found = rows(Path(f"/dev/fd/{read}"))
    finally:
        os.close(read)

    assert [request(row).image.text for row in found] == ["a.png", "b.png"]


def test_the_folder_of_the_process_does_not_matter_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative manifest gives absolute bases: the journal may be resumed from elsewhere."""
    table(tmp_path, "image\na.png\n")
    monkeypatch.chdir(tmp_path)

    assert requests(Path("manifest.csv"))[0].image.base == str(tmp_path)


@pytest.mark.parametrize(
    ("header", "delimiter"), [("image;a,b", ";"), ("prompt;image_url", ";"), ("key\timage", "\t"), ('"image";"b"', ";")]
)
def test_the_delimiter_is_the_one_that_finds_the_image(tmp_path: Path, header: str, delimiter: str) -> None:
    """Spreadsheets write semicolons where the comma is for decimals."""
    cells = ["x.png" if "image" in name else "a,b;c\td" for name in header.split(delimiter)]
    row = delimiter.join(f'"{cell}"' for cell in cells)

    assert requests(table(tmp_path, f"{header}\n{row}\n"))[0].image.text == "x.png"


class TestFailuresColumns:
    """What a list of failures says beside the rows' own columns."""

    def test_a_base_changes_no_path(self, tmp_path: Path) -> None:
        """With it or without, the same file is meant; with it the row is what it was in its own manifest."""
        one = {"image": "../img/a.png", "tail_image": "../t.png", "prompt": "x"}
        plain, based = requests(lines(tmp_path, one, {**one, "_base": ".."}))
        original = ImageToVideo("img/a.png", "x", tail_image="t.png")

        for (_, first), (_, second) in zip(plain.images, based.images, strict=True):
            assert Path(first.base, first.text) == Path(second.base, second.text)
        assert written_digest(based) == written_digest(original)
        assert written_digest(plain) != written_digest(original)

    @pytest.mark.parametrize("image", ["/abs/a.png", "img/a.png", "..//abs/a.png", "../", "https://host/a.png"])
    def test_a_path_outside_the_base_is_read_as_ever(self, tmp_path: Path, image: str) -> None:
        """Somebody edited the row."""
        (row,) = rows(lines(tmp_path, {"image": image, "_base": ".."}))

        assert request(row).image == ImageSource.of(image, base=str(tmp_path))

    def test_kept_images_are_known(self, tmp_path: Path) -> None:
        """They are the journal's, with the digest that they had as bytes."""
        digest = "ab" * 32
        one = {"image": f".kling/inputs/{digest}", "_inputs": ".kling/inputs"}
        (row,) = rows(lines(tmp_path, one))

        assert request(row).image == ImageSource(ImageKind.STORED, digest, str(tmp_path / ".kling/inputs"))

    def test_names_that_no_column_can_have_are_carried(self, tmp_path: Path) -> None:
        """They stand together under a name of their own."""
        carry = {"prompt": 1, "promt": "x", "_a": None, "": [2]}
        (row,) = rows(lines(tmp_path, {"image": "a.png", "own": 3, "_carry": carry}))

        assert request(row).carry == {"own": 3, **carry}


class Together(ThreadPoolExecutor):
    """Threads whose work begins only when all of it is under way: more pieces than threads would never begin."""

    def __init__(self, pieces: int) -> None:
        super().__init__(pieces)
        self._all_here = threading.Barrier(pieces, timeout=30)

    def submit(self, work: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        def begun() -> Any:
            self._all_here.wait()
            return work(*args, **options)

        return super().submit(begun)


class TestCheckFiles:
    """What is looked at before anything is paid."""

    def checked(self, tmp_path: Path, **columns: object) -> list[str]:
        """Return what is said of one row."""
        (row,) = rows(lines(tmp_path, columns))
        return [str(error) for error in check_files(row)]

    def test_images_that_begin_like_images_pass(self, tmp_path: Path) -> None:
        """Files, URLs (not asked), data URIs; masks too."""
        (tmp_path / "a.png").write_bytes(PNG)
        data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
        masks = [{"mask": "a.png", "trajectories": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}]

        assert self.checked(tmp_path, image="a.png", tail_image="https://x/y", static_mask=data) == []
        assert self.checked(tmp_path, image="a.png", dynamic_masks=masks) == []

    def test_every_image_of_a_row_is_looked_at(self, tmp_path: Path) -> None:
        """Missing, a folder, a pipe (which never answers), no image, an empty file."""
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "empty.png").write_bytes(b"")
        masks = [{"mask": "empty.png", "trajectories": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}]
        said = self.checked(tmp_path, image="no.png", tail_image="folder", static_mask="pipe", dynamic_masks=masks)

        assert said == [
            f"line 1, image: there is no file {tmp_path}/no.png",
            f"line 1, tail_image: {tmp_path}/folder cannot be read: is a folder",
            f"line 1, static_mask: {tmp_path}/pipe cannot be read: is not a regular file",
            f"line 1, dynamic_masks[0].mask: {tmp_path}/empty.png begins like no image that is known",
        ]

    def test_a_data_uri_that_is_no_image_is_told(self, tmp_path: Path) -> None:
        """Without its bytes."""
        data = f"data:image/png;base64,{base64.b64encode(b'no image, for sure').decode()}"

        assert self.checked(tmp_path, image=data) == ["line 1, image: begins like no image that is known"]

    def test_only_the_first_bytes_are_read(self, tmp_path: Path) -> None:
        """A million images are looked at in minutes, not hours: here one of 64 GiB."""
        (tmp_path / "a.png").write_bytes(PNG)
        os.truncate(tmp_path / "a.png", 64 * 1024**3)

        assert self.checked(tmp_path, image="a.png") == []

    def test_files_are_looked_at_together_and_each_once(self, tmp_path: Path) -> None:
        """Two that wait for each other are both looked at; a file of many rows is opened for the first of them."""
        (tmp_path / "a.png").write_bytes(PNG)
        found = rows(lines(tmp_path, *({"image": name} for name in ("no.png", "a.png", "nor.png", "no.png"))))
        with Together(3) as threads:
            looked_at = look_at_files(found, threads)

        assert [source.text for source in looked_at] == ["no.png", "a.png", "nor.png"]
        assert [len(check_files(row, looked_at)) for row in found] == [1, 0, 1, 1]
        assert [error.line for row in found for error in check_files(row, looked_at)] == [1, 3, 4]

    def test_a_faulty_row_has_nothing_to_look_at(self) -> None:
        """Its faults are told already."""
        assert check_files(Row(1, None, (ManifestError("x"),))) == ()


class TestDrafts:
    """One key, one content; what is kept is what was read."""

    def kept(self, rows: Iterable[Row]) -> tuple[Repeated, list[Draft]]:
        with closing(Drafts()) as drafts:
            for row in rows:
                drafts.note(row)
            found = drafts.find(shown=50)
            return found, [draft for page in drafts.pages(drafts.count) for draft in page]

    def found(self, rows: Iterable[Row], shown: int = 50) -> Repeated:
        with closing(Drafts()) as drafts:
            for row in rows:
                drafts.note(row)
            return drafts.find(shown=shown)

    def test_other_content_under_a_key_is_an_error(self, tmp_path: Path) -> None:
        """Both lines are named; a third row that is the first again is no error."""
        path = table(tmp_path, "key,image\na,1.png\nb,1.png\n\na,2.png\na,1.png\n")
        found = self.found(read_manifest(path))

        said = "line 5, key: 'a' stands on line 2 with other content: give each row a key of its own"
        assert [str(error) for error in found.errors] == [said]
        assert (found.clashes, found.same) == (1, 1)

    def test_equal_rows_are_kept_once(self, tmp_path: Path) -> None:
        """The first of them, with a key or without; what they carry does not count."""
        path = table(tmp_path, "key,image,own\na,1.png,x\na,1.png,y\n,1.png,x\n,1.png,x\n,2.png,x\n")
        found, kept = self.kept(read_manifest(path))

        assert (found.same, found.clashes) == (2, 0)
        assert [request_of(draft.document).carry for draft in kept] == [{"own": "x"}] * 3

    def test_faulty_rows_are_passed_over(self) -> None:
        """They have no request to compare, and no number."""
        faulty = Row(1, None, (ManifestError("x"),))
        found, kept = self.kept([faulty, *numbered(2), faulty, *numbered(1)])
        assert (found.same, [draft.key for draft in kept]) == (1, ["1", "2"])

    def test_the_first_errors_are_shown_and_all_are_counted(self) -> None:
        """A manifest whose every row has one key is not told row by row."""
        image = ImageSource.of("https://example.com/a.png")
        rows = [Row(line, ImageToVideo(image, f"{line}", key="a")) for line in range(1, 3001)]
        found = self.found(rows, shown=3)

        assert ([error.line for error in found.errors], found.clashes) == ([2, 3, 4], 2999)

    def test_it_needs_the_same_memory_for_many_rows(self) -> None:
        """They lie on a disk; every one is known again."""
        tracemalloc.start()
        try:
            found = self.found(row for _ in range(2) for row in numbered(10_000))
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()

        assert found.same == 10_000

    def test_a_full_disk_is_told(self) -> None:
        """In a user's words: it is the one for temporary files, of which nobody thinks."""
        with files_of(60_000), closing(Drafts()) as drafts, pytest.raises(ManifestError, match="TMPDIR"):
            for row in numbered(2000):
                drafts.note(row)

    def test_a_disk_that_is_full_in_the_search_is_told(self) -> None:
        """The search has a file of its own."""
        with closing(Drafts()) as drafts:
            for _ in range(2):
                for row in numbered(10_000):
                    drafts.note(row)
            with files_of(60_000), pytest.raises(ManifestError, match="TMPDIR"):
                drafts.find(shown=1)

    def test_keys_that_rise_are_not_looked_for(self) -> None:
        """They are all different, `9` before `10`, too: there is not even room for the search."""
        with closing(Drafts()) as drafts:
            for row in numbered(20_000):
                drafts.note(row)
            with files_of(60_000):
                assert drafts.find(shown=1) == Repeated()

    @pytest.mark.parametrize("at", [1, 999, 1000, 1001, 2500, 3000])
    def test_one_that_stands_twice_is_found_wherever_it_stands(self, at: int) -> None:
        """Right behind itself, or pages away; also where only the rows before it are wanted."""
        rows, keys = [*numbered(3000)], [str(number) for number in range(1, 3001)]
        for repeated in (1, at):
            with closing(Drafts()) as drafts:
                for row in [*rows[:at], rows[repeated - 1], *rows[at:]]:
                    drafts.note(row)
                assert drafts.find(shown=1) == Repeated(same=1)
                for until in (0, at, at + 1, 1500, drafts.count):
                    kept = [draft.key for page in drafts.pages(until) for draft in page]
                    assert kept == keys[: until if until <= at else until - 1]

    def test_rows_that_are_let_go_meanwhile_are_missed(self) -> None:
        """Whoever reads on is told, and takes no part of a manifest for the whole."""
        with closing(Drafts()) as drafts:
            for row in numbered(2000):
                drafts.note(row)
            drafts.find(shown=1)
            pages = drafts.pages(drafts.count)
            next(pages)
        with pytest.raises(ManifestError, match="let go"):
            next(pages)

    def test_keys_in_any_order_are_all_kept(self) -> None:
        """In the order of the manifest."""
        rows = [*numbered(2500)]
        Random(1).shuffle(rows)
        for some in (rows, [*reversed([*numbered(2500)])]):
            found, kept = self.kept(some)
            assert found == Repeated()
            assert [draft.key for draft in kept] == [row.request.key for row in some if row.request is not None]


@contextmanager
def files_of(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def numbered(count: int) -> Iterator[Row]:
    image = ImageSource.of("https://example.com/a.png")
    return (Row(number, ImageToVideo(image, key=str(number))) for number in range(1, count + 1))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_json_is_read_as_it_was_written(value: object) -> None:
    """Strict reading changes nothing of what is right."""
    assert parse_json(json.dumps(value)) == value


@given(st.binary(max_size=300), st.sampled_from(["m.csv", "m.tsv", "m.jsonl", "m"]))
@example(b"image\n\0", "m.csv")
@example(b"\xff\xfe", "m")
def test_any_bytes_give_rows_or_manifest_errors(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    """Nothing else is ever raised, and every row has a request or an error."""
    path = table(tmp_path_factory.getbasetemp(), content, name)
    try:
        found = rows(path)
    except ManifestError:
        return
    assert all((row.request is None) == bool(row.errors) for row in found)
