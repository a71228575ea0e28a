"""The program as its users meet it: a process of its own, between a folder and a simulated service.

The service lives on a loop in a thread, so that a test can look into its account book while the program runs. This is
real time: what a test waits for has a deadline, and nothing sleeps longer than it must.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

from attrs import field, frozen

from kling_async.simulator import FaultPlan, Purchase, Simulator, SimulatorSettings
from tests.cli.forks import Fork, Forks

T = TypeVar("T")

KEY = "sk-a-key-that-nobody-may-read"
"""The key of the simulated account."""

PATIENCE = 30.0
"""Seconds after which a process that has not ended is a fault."""

_POLL = 0.01

OWN_THE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "kling_async", *sys.argv[1:]])
"""
"""Makes the terminal the process's own, so that Ctrl-C there is a signal to it, and becomes the program."""


def png(side: int = 320, shade: int = 128) -> bytes:
    """Return a whole grey PNG."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = (b"\0" + bytes([shade]) * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


DATA_URI = f"data:image/png;base64,{base64.b64encode(png()).decode()}"


def until(happened: Callable[[], bool], what: str, *, timeout: float = PATIENCE) -> None:
    """Wait until something has happened; fail where it does not."""
    deadline = time.monotonic() + timeout
    while not happened():
        assert time.monotonic() < deadline, f"waited {timeout:g} s in vain: {what}"
        time.sleep(_POLL)


class LoopThread:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="simulated services")
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and return what it returned."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def call(self, work: Callable[[], T]) -> T:
        """Call a function there, between two steps of the loop."""

        async def called() -> T:
            return work()

        return self.do(called())

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@frozen
class Ended:
    """How a process ended."""

    code: int
    """The exit code; negative: the signal that killed it."""
    out: str
    """All of stdout."""
    err: str
    """All of stderr."""
    seconds: float = 0.0
    """How long it took from its start."""

    @property
    def document(self) -> Any:
        """Stdout as one JSON document, and nothing else."""
        return json.loads(self.out)

    @property
    def plain(self) -> str:
        """Stderr without the codes of a terminal."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.err)

    @property
    def resume(self) -> list[str]:
        """The arguments of the command that stderr tells to go on with."""
        commands = ("kling-async run ", "kling-async retry ")
        lines = [line.strip() for line in self.err.splitlines()]
        told = [line.partition("kling-async ")[2] for line in lines if line.startswith(commands)]
        told += [line.partition("kling-async ")[2] for line in self.err.splitlines() if "--resume" in line]
        assert len(told) == 1, self.err
        return shlex.split(told[0])


class Process:
    """The program while it runs; what it says is read all the time."""

    def __init__(self, command: list[str], *, forks: Forks | None = None, **options: Any) -> None:
        self.began = time.monotonic()
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        self.popen: subprocess.Popen[str] | Fork
        if forks is None:
            self.popen = subprocess.Popen(command, text=True, encoding="utf-8", start_new_session=True, **given)
        else:
            self.popen = forks.start(command, **given)
        self._said: dict[str, list[str]] = {"out": [], "err": []}
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, self._said[name]))
            for name, pipe in (("out", self.popen.stdout), ("err", self.popen.stderr))
            if pipe is not None
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(pipe: IO[str], said: list[str]) -> None:
        with contextlib.suppress(ValueError):  # closed by the test
            said.extend(iter(pipe.readline, ""))

    @property
    def err(self) -> str:
        """What stderr got so far."""
        return "".join(self._said["err"])

    @property
    def out(self) -> str:
        """What stdout got so far."""
        return "".join(self._said["out"])

    def says(self, text: str, *, times: int = 1) -> None:
        """Wait until stderr says something so many times."""
        until(lambda: self.err.count(text) >= times or self.popen.poll() is not None, f"{text!r} in {self.err!r}")
        assert self.err.count(text) >= times, self.err

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program alone."""
        self.popen.send_signal(number)

    def finish(self, *, timeout: float = PATIENCE) -> Ended:
        """Wait for the end."""
        code = self.popen.wait(timeout)
        seconds = time.monotonic() - self.began
        for reader in self._readers:
            reader.join(PATIENCE)
        self.close()
        return Ended(code, self.out, self.err, seconds)

    def close(self) -> None:
        """Let go of everything; kill what still runs."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        for reader in self._readers:
            reader.join(PATIENCE)
        for pipe in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Terminal:
    """The far side of a terminal: what it was sent, and what is typed there."""

    def __init__(self) -> None:
        self._master, self.slave = pty.openpty()
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the program has left
            while piece := os.read(self._master, 4096):
                self._seen.extend(piece)

    def open(self) -> None:
        """Begin to read; the program has the near side now."""
        os.close(self.slave)
        self._reader.start()

    def answer(self, question: str, keys: str) -> None:
        """Wait for a question, and type."""
        until(lambda: question in self.seen, f"{question!r} in {self.seen!r}")
        os.write(self._master, keys.encode())

    def close(self) -> None:
        """Close it when the program has ended."""
        self._reader.join(PATIENCE)
        os.close(self._master)

    @property
    def seen(self) -> str:
        """What it was sent."""
        return self._seen.decode("utf-8", "replace")


@frozen
class World:
    """A folder, a simulated service, and the program between them."""

    loop: LoopThread
    folder: Path
    service: Simulator
    base: Mapping[str, str]
    forks: Forks | None = None
    """Where the program is loaded already; None: each start is one from nothing."""
    processes: list[Process] = field(factory=list)

    # ------------------------------------------------------------ the program

    def environment(self, **changes: str | None) -> dict[str, str]:
        """Return the environment of the program: none of the machine's settings, the service's address and key."""
        given = {**self.base, "AIMLAPI_BASE_URL": self.service.base_url, "AIMLAPI_API_KEY": KEY, **changes}
        return {name: value for name, value in given.items() if value is not None}

    def start(self, *arguments: str, env: Mapping[str, str | None] | None = None, **options: Any) -> Process:
        """Start the program in the folder; names of `env` that are None are taken out."""
        return self._begin([sys.executable, "-m", "kling_async"], arguments, env or {}, own_terminal=False, **options)

    def begin(self, command: list[str], *, env: Mapping[str, str | None], **options: Any) -> Process:
        """Start any command as the program is started."""
        process = Process(command, **{"cwd": self.folder, "env": self.environment(**env), **options})
        self.processes.append(process)
        return process

    def _begin(
        self,
        program: list[str],
        arguments: tuple[str, ...],
        env: Mapping[str, str | None],
        *,
        own_terminal: bool,
        **options: Any,
    ) -> Process:
        """Start the program as a fork of one that is loaded, where that can be done, and from nothing elsewhere."""
        environment = self.environment(**env)
        if self.forks is None or not self.forks.can(environment):
            return self.begin([*program, *arguments], env=env, **options)
        given = {"cwd": self.folder, "env": environment, "own_terminal": own_terminal, **options}
        process = Process(list(arguments), forks=self.forks, **given)
        self.processes.append(process)
        return process

    def run(self, *arguments: str, **options: Any) -> Ended:
        """Run the program to its end."""
        return self.start(*arguments, **options).finish()

    def on_terminal(self, *arguments: str, question: str = "", keys: str = "", **environment: str | None) -> Ended:
        """Run the program with stdin and stderr on a terminal, and type `keys` where it asks the question."""
        terminal = Terminal()
        program, streams = [sys.executable, "-c", OWN_THE_TERMINAL], {"stdin": terminal.slave, "stderr": terminal.slave}
        process = self._begin(program, arguments, environment, own_terminal=True, **streams)
        terminal.open()
        if question:
            terminal.answer(question, keys)
        ended = process.finish()
        terminal.close()
        return Ended(ended.code, ended.out, terminal.seen, ended.seconds)

    # -------------------------------------------------------------- the files

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file into the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def manifest(self, rows: int | Iterable[Mapping[str, object]] = 3, name: str = "shots.jsonl") -> str:
        """Write a manifest and its image, and return its name."""
        self.write("cat.png", png())
        made = [{"key": f"row{i}", "prompt": f"prompt {i}"} for i in range(rows)] if isinstance(rows, int) else rows
        self.write(name, "".join(json.dumps({"image": "cat.png", **row}) + "\n" for row in made))
        return name

    def videos(self, out: str = "out") -> set[str]:
        """Return the names in the folder of videos."""
        folder = self.folder / out / "videos"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()

    def metadata(self, out: str = "out") -> list[dict[str, Any]]:
        """Return the lines of the metadata."""
        path = self.folder / out / "metadata.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    # ------------------------------------------------------------ the service

    def ask(self, look: Callable[[Simulator], T]) -> T:
        """Look into the service, as it stands now."""

        def looked() -> T:
            self.service.world.advance(self.service.now())
            return look(self.service)

        return self.loop.call(looked)

    def go_wrong(self, plan: FaultPlan) -> None:
        """Let things go wrong from now on; an empty plan: no more."""
        self.ask(lambda service: setattr(service, "faults", plan))

    def bought(self) -> list[Purchase]:
        """Return what was bought so far, failed ones too."""
        return self.ask(lambda service: service.book.bought())

    def calls(self, operation: str) -> int:
        """Return how many calls of an operation arrived."""
        return self.ask(lambda service: service.book.calls[operation])

    def until_called(self, operation: str, times: int = 1) -> None:
        """Wait until the service was called so often."""
        until(lambda: self.calls(operation) >= times, f"{times} calls of {operation}")

    def audit(self, out: str = "out") -> None:
        """Hold the account book against the folder: nothing bought twice or lost, and each file whole."""
        lines = self.metadata(out)
        duplicates, leaks, paid = self.ask(
            lambda service: (
                service.book.duplicates(),
                service.book.key_leaks,
                {purchase.generation_id for purchase in service.book.paid()},
            )
        )
        assert not duplicates, "bought twice"
        assert not leaks, "the key was sent to the file host"
        assert paid == {line["generation_id"] for line in lines}, "what was paid for is not what is there"
        assert self.videos(out) == {Path(line["file_name"]).name for line in lines}
        for line in lines:
            served = self.loop.do(self.service.served_bytes(line["generation_id"]))
            content = (self.folder / out / line["file_name"]).read_bytes()
            assert content == served, f"{line['file_name']} is not what was made"
            assert (line["size"], line["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


IMPATIENT = {
    "KLING_ASYNC_BACKOFF_FIRST": "0.05",
    "KLING_ASYNC_POLL_INTERVAL_MAX": "0.1",
    "SSL_CERT_FILE": os.devnull,
    "SSL_CERT_DIR": os.devnull,
}
"""A simulated video takes a fifth of a second: who waits longer wastes a test's time. To read the machine's
certificates, which no test needs, is a tenth of each start."""


def at_once(*works: Callable[[], T]) -> list[T]:
    """Do several things at the same time, and return what they returned; an error is raised when all are over."""
    with ThreadPoolExecutor(len(works)) as threads:
        return [future.result() for future in [threads.submit(work) for work in works]]


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would set the program up."""
    foreign = ("KLING_ASYNC_", "AIMLAPI_", "AIML_", "COV_CORE_", "COVERAGE_")
    unwanted = {"NO_COLOR", "FORCE_COLOR", "CLICOLOR", "COLUMNS", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and not name.lower().endswith("_proxy") and name not in unwanted
    } | {"TERM": "xterm-256color", "PYTHONUTF8": "1", **IMPATIENT}


def open_service(loop: LoopThread, plan: FaultPlan | None, settings: Mapping[str, Any]) -> Simulator:
    """Open a service of its own for one test: a video takes 0.2 s, any number at once."""
    given = {"clips": "template", "durations": 0.2, "limit": None, "keys": (KEY,), **settings}
    simulator = Simulator(SimulatorSettings(**given), plan)
    return loop.do(simulator.__aenter__())
