"""A folder of images as a manifest: each image a row, each text its prompt, and nothing passed over in silence."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from kling_async.adapters.manifest import check_files, read_manifest
from kling_async.adapters.manifest_folder import folder_digest
from kling_async.errors import ManifestError
from kling_async.types.image import ImageKind

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(100)


def lay(folder: Path, *names: str, **texts: bytes) -> Path:
    """Lay images, and prompts by their names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PNG)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_bytes(text)
    return folder


def said(folder: Path) -> list[str]:
    """Return what is wrong, as it is told."""
    return [str(error) for row in read_manifest(folder) for error in row.errors or check_files(row)]


def test_each_image_is_a_row(tmp_path: Path) -> None:
    """Its key is its path without the ending, its prompt the text beside it; they come in the order of their keys."""
    lay(tmp_path, "z.png", "a.JPG", "b/c/x.webp", "b/x.jpeg", a=b"the cat\r\n\n", z=b"\xef\xbb\xbfa dog  ")
    found = [(row.request.key, row.request.prompt, row.request.image) for row in read_manifest(tmp_path) if row.request]

    assert [(key, prompt) for key, prompt, _ in found] == [
        ("a", "the cat"),
        ("b/c/x", None),
        ("b/x", None),
        ("z", "a dog  "),
    ]
    assert [(image.kind, image.text, image.base) for _, _, image in found] == [
        (ImageKind.PATH, name, str(tmp_path)) for name in ("a.JPG", "b/c/x.webp", "b/x.jpeg", "z.png")
    ]


@pytest.mark.parametrize("text", [b"", b"\n", b" \t\r\n"])
def test_an_empty_prompt_is_none(tmp_path: Path, text: bytes) -> None:
    """As one that is not there."""
    (row,) = read_manifest(lay(tmp_path, "a.png", a=text))
    assert row.request is not None
    assert row.request.prompt is None


def test_what_is_hidden_or_something_else_is_passed_over(tmp_path: Path) -> None:
    """Hidden files and folders, and what is neither an image nor a text."""
    lay(tmp_path, "a.png", ".b.png", ".kling/inputs/c.png", "notes.md", "metadata.jsonl", "videos/a.mp4")
    assert [row.file for row in read_manifest(tmp_path)] == ["a.png"]


def test_what_does_not_fit_together_is_told(tmp_path: Path) -> None:
    """Two images of one name, a prompt without an image, links to folders, texts that are none: all at once."""
    lay(
        tmp_path,
        "a.png",
        "a.jpg",
        "b.png",
        "c.png",
        "d.png",
        "d/e.gif",
        lost=b"x",
        b=b"\xff",
        c=b"a\0",
        d=b"x" * 70_000,
    )
    (tmp_path / "d" / "e.gif").write_bytes(b"no image")
    (tmp_path / "link").symlink_to("d")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "B.TXT").write_bytes(b"of another name")

    assert said(tmp_path) == [
        "B.TXT, prompt: has no image of its name beside it",
        "a.jpg, image: has the name of a.png: give each a name of its own",
        "b.txt, prompt: cannot be read: it holds bytes that are not UTF-8: save it as UTF-8",
        "c.txt, prompt: cannot be read: it holds a NUL character",
        "d.txt, prompt: cannot be read: it has more than 65,536 bytes: is it a prompt?",
        f"d/e.gif, image: {tmp_path}/d/e.gif begins like no image that is known",
        f"gone.png, image: there is no file {tmp_path}/gone.png",
        "link: is a link to a folder: run that folder by itself, or put its images here",
        "lost.txt, prompt: has no image of its name beside it",
    ]


def test_a_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    """It could not be a key."""
    try:
        Path(os.fsdecode(bytes(tmp_path) + b"/\xff.png")).write_bytes(PNG)
    except OSError:
        pytest.skip("this file system takes no such name")
    (row,) = read_manifest(tmp_path)
    assert [error.field for error in row.errors] == ["key"]


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    """It is no empty job."""
    with pytest.raises(ManifestError, match="no images"):
        list(read_manifest(tmp_path))


@pytest.mark.parametrize("what", ["prompt", "same size and date", "image", "new", "gone"])
def test_the_digest_tells_what_changed(tmp_path: Path, what: str) -> None:
    """A prompt or an image of another time or size, one more, one less; a look at it changes nothing."""
    lay(tmp_path, "a.png", "b/c.png", a=b"x")
    before = folder_digest(tmp_path)
    assert folder_digest(tmp_path) == before
    if what == "prompt":
        (tmp_path / "a.txt").write_bytes(b"other")
    elif what == "same size and date":
        dated = (tmp_path / "a.txt").stat()
        (tmp_path / "a.txt").write_bytes(b"y")
        os.utime(tmp_path / "a.txt", ns=(dated.st_atime_ns, dated.st_mtime_ns))
    elif what == "image":
        os.utime(tmp_path / "b/c.png", (1, 1))
    elif what == "new":
        lay(tmp_path, "d.png")
    else:
        (tmp_path / "b/c.png").unlink()

    assert folder_digest(tmp_path) != before


def test_a_large_folder_takes_little_memory(tmp_path: Path) -> None:
    """Its names are sorted on a disk."""
    for number in range(5_000):
        (tmp_path / f"{number}-{'x' * 100}.png").touch()
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_manifest(tmp_path)) == 5_000
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()
