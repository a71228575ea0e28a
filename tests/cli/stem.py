"""A process that has loaded the program and begun nothing; each fork of it becomes the program, once.

`tests.cli.forks` starts it and asks: over the socket whose number is its only argument come four files for each fork:
stdin, stdout, stderr, and a socket on which the fork reads what it is to be, and on which the asker is told its number
and, at its end, its exit code. What ends the asker ends the stem.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import sys
import termios
from importlib import import_module
from io import TextIOWrapper
from typing import Final

LOADED: Final = ("assembly", "events", "journals", "logs", "manifests", "memory", "open_files", "simulator.server")
"""What the commands load when they are called, beside all of `kling_async.cli`."""

MOST_FILES: Final = 1024
"""Above the number of every file that a stem has open."""

FILES: Final = 4
"""How many come with each request."""


def load() -> None:
    """Load the program, and let the collector of garbage pass over it."""
    import kling_async.cli as rooms  # noqa: PLC0415 - it is what is begun here

    for room in pkgutil.iter_modules(rooms.__path__, "kling_async.cli."):
        import_module(room.name)
    for name in LOADED:
        import_module(f"kling_async.{name}")
    gc.collect()
    gc.freeze()


def fork_on_demand(channel: socket.socket) -> tuple[int, ...]:
    """Fork for each request, and return its files: in the fork alone."""
    signal.signal(signal.SIGCHLD, lambda *_: None)
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    askers: dict[int, socket.socket] = {}
    while True:
        ready = select.select([channel.fileno(), woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            _tell_the_ended(askers)
        if channel.fileno() in ready:
            files = tuple(socket.recv_fds(channel, 1, FILES)[1])
            if not files:
                os._exit(0)
            child = os.fork()
            if not child:
                return files
            asker = askers[child] = socket.socket(fileno=files[-1])
            asker.sendall(struct.pack("!i", child))
            for number in files[:-1]:
                os.close(number)


def _tell_the_ended(askers: dict[int, socket.socket]) -> None:
    while askers:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        with askers.pop(child) as asker:
            asker.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))


def become(files: tuple[int, ...]) -> None:
    """Make the process what a start of the program would have made: its streams, signals, folder and environment."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    with socket.socket(fileno=files[-1]) as asker, asker.makefile(encoding="utf-8") as told:
        job = json.loads(told.readline())
    for number, given in enumerate(files[:-1]):
        os.dup2(given, number)
    os.closerange(3, MOST_FILES)
    if job["own_terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.argv = ["kling_async", *job["arguments"]]
    sys.stdin = _stream(0, "r", "surrogateescape")
    sys.stdout = _stream(1, "w", "surrogateescape")
    sys.stderr = _stream(2, "w", "backslashreplace")


def _stream(number: int, mode: str, errors: str) -> TextIOWrapper:
    """Return a stream as the interpreter makes it in its UTF-8 mode."""
    line_buffered = number == 2 or os.isatty(number)
    file = open(number, f"{mode}b", closefd=False)  # noqa: SIM115 - open to the end
    return TextIOWrapper(file, encoding="utf-8", errors=errors, line_buffering=line_buffered)


if __name__ == "__main__":
    load()
    become(fork_on_demand(socket.socket(fileno=int(sys.argv[1]))))
    runpy.run_module("kling_async", run_name="__main__", alter_sys=True)
