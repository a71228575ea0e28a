"""The programs of "Use it in your program", run as they stand on the page."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import sys
import urllib.parse
from pathlib import Path
from typing import Any

from tests.cli.harness import PATIENCE, World, until

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/use-it-in-your-program.md"


def programs() -> dict[str, list[str]]:
    """Return the programs of the page by their titles; a notebook's cells in order."""
    found: dict[str, list[str]] = {}
    blocks = re.compile(r'^```python title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
    for title, text in blocks.findall(PAGE.read_text("utf-8")):
        found.setdefault(title, []).append(text)
    return found


def started(world: World, title: str) -> Any:
    """Write a program into the world's folder, and start it there."""
    (text,) = programs()[title]
    world.write(title, text)
    return world.begin([sys.executable, title], env={})


def test_every_program_of_the_page_is_run_here() -> None:
    """A program that is added to the page needs its test."""
    assert set(programs()) == {"script.py", "service.py", "worker.py", "notebook", "tasks.py"}


def test_a_plain_script(world: World) -> None:
    ended = started(world, "script.py").finish()
    assert (ended.code, ended.err) == (0, "")
    name, size = ended.out.split()
    assert (world.folder / name).stat().st_size == int(size) > 0
    assert len(world.bought()) == 1


def answer(port: int, method: str, path: str, **query: str) -> tuple[int, bytes]:
    """Call the service of a test; return the status and the body."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request(method, f"{path}?{urllib.parse.urlencode(query)}")
        reply = connection.getresponse()
        return reply.status, reply.read()


def test_a_service(world: World) -> None:
    """A video is begun twice under one key and bought once, fetched when it is there, and the program ends cleanly."""
    (text,) = programs()["service.py"]
    world.write("service.py", text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = world.begin([sys.executable, "-m", "uvicorn", "service:app", "--port", str(port)], env={})
    process.says("Uvicorn running")
    given = {"image_url": "https://images.example/cat.png", "prompt": "yawn"}
    begun = [answer(port, "PUT", "/videos/order-1", **given) for _ in range(2)]
    assert [status for status, _ in begun] == [202, 202]
    (generation_id,) = {json.loads(body)["generation_id"] for _, body in begun}
    found: list[bytes] = []

    def is_there() -> bool:
        status, body = answer(port, "GET", "/videos", generation_id=generation_id)
        found.append(body)
        return status == 200

    until(is_there, "the video")
    assert found[-1][4:8] == b"ftyp"
    process.popen.terminate()
    ended = process.finish()
    assert "Application shutdown complete" in ended.err
    assert "Traceback" not in ended.err
    assert len(world.bought()) == 1


def test_a_worker(world: World) -> None:
    """Each order comes back with what it brought along; started again, nothing is bought anew."""
    ended = started(world, "worker.py").finish()
    assert (ended.code, ended.err) == (0, "")
    told = dict(line.split(" ", 1) for line in ended.out.splitlines())
    assert told == {f"c{number}": f"videos/videos/order-{number}.mp4" for number in range(3)}
    assert world.videos("videos") == {f"order-{number}.mp4" for number in range(3)}
    assert started(world, "worker.py").finish().code == 0
    assert len(world.bought()) == 3


def test_a_notebook(world: World) -> None:
    """Its cells, run by a kernel one after the other."""
    cells: list[dict[str, object]] = [
        {"cell_type": "code", "metadata": {}, "source": text, "outputs": [], "execution_count": None}
        for text in programs()["notebook"]
    ]
    world.write("cells.ipynb", json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": cells}))
    run = (
        "import nbformat, nbclient; book = nbformat.read('cells.ipynb', 4); "
        "nbclient.NotebookClient(book, kernel_name='python3').execute(); "
        "print(book.cells[-1].outputs[-1].data['text/plain'])"
    )
    ended = world.begin([sys.executable, "-W", "ignore", "-c", run], env={}).finish(timeout=2 * PATIENCE)
    assert ended.code == 0, ended.err
    assert int(ended.out) == (world.folder / "cat.mp4").stat().st_size
    assert len(world.bought()) == 1


def test_a_task_group(world: World) -> None:
    ended = started(world, "tasks.py").finish()
    assert (ended.code, ended.err) == (0, "")
    assert set(ended.out.split()) == {"yawn.mp4", "stretch.mp4", "leap.mp4"}
    assert len(world.bought()) == 3
