"""Starts the program without loading it each time: forks of one process that has (`tests.cli.stem`).

To load it takes five times what a small job does. A fork is a process of its own all the same, with its own session,
streams, folder, environment, signals and exit code; what must be shown from the first instruction on is started really.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from select import select
from typing import IO, Any, Final, TypeAlias

File: TypeAlias = int | IO[Any]
"""What `subprocess.Popen` takes as a stream: a number, `PIPE`, `DEVNULL`, or a file."""

_LOAD_TIME: Final = ("PYTHON", "SSL_", "LC_", "LANG", "LD_", "TZ")
"""Begin the names of what is read before the program's first line, or by what it loads: a fork cannot change them."""


class Fork:
    """A process that was forked; it is asked as a `subprocess.Popen` is."""

    def __init__(self, asker: socket.socket, stdout: IO[str] | None, stderr: IO[str] | None) -> None:
        self._asker = asker
        self.stdin: None = None
        self.stdout, self.stderr = stdout, stderr
        self.pid = self._told()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._wait(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit code.

        Raises:
            TimeoutExpired: It has not ended so soon.
        """
        code = self._wait(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None and select([self._asker], [], [], timeout)[0]:
            self.returncode = self._told()
            self._asker.close()
        return self.returncode

    def _told(self) -> int:
        number: int = struct.unpack("!i", self._asker.recv(4, socket.MSG_WAITALL))[0]
        return number


class Forks:
    """Forks of one process; that one is started with the first of them.

    Args:
        environment: The environment of the one that is forked.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._stem: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def can(self, environment: Mapping[str, str]) -> bool:
        """Tell whether a fork can have an environment: where it differs, that must be read by the program alone."""
        differing = dict(set(environment.items()) ^ set(self._environment.items()))
        return not any(name.startswith(_LOAD_TIME) for name in differing)

    def start(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], own_terminal: bool, **streams: File
    ) -> Fork:
        """Start the program.

        Args:
            arguments: Its arguments.
            cwd: The folder in which it starts.
            env: Its environment.
            own_terminal: Whether its stdin is a terminal that becomes its own.
            streams: Its `stdin`, `stdout` and `stderr`.
        """
        job = {"arguments": list(arguments), "cwd": str(cwd), "environment": dict(env), "own_terminal": own_terminal}
        with ExitStack() as given:
            pairs = [_opened(given, streams[name], name) for name in ("stdin", "stdout", "stderr")]
            asker, theirs = socket.socketpair()
            given.enter_context(theirs)
            with self._lock:
                socket.send_fds(self._open(), [b"!"], [*(number for number, _ in pairs), theirs.fileno()])
            asker.sendall(json.dumps(job).encode() + b"\n")
        return Fork(asker, pairs[1][1], pairs[2][1])

    def _open(self) -> socket.socket:
        if self._channel is None:
            self._channel, theirs = socket.socketpair()
            with theirs:
                number = theirs.fileno()
                command = [sys.executable, "-P", str(Path(__file__).with_name("stem.py")), str(number)]
                self._stem = subprocess.Popen(
                    command,
                    env=self._environment,
                    pass_fds=(number,),
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
        return self._channel

    def close(self) -> None:
        """End the process that is forked."""
        if self._channel is not None and self._stem is not None:
            self._channel.close()
            self._stem.wait()


def _opened(given: ExitStack, stream: File, name: str) -> tuple[int, IO[str] | None]:
    """Return the number of a stream for the program, and what is read from it here; `given` closes the former."""
    if stream == subprocess.DEVNULL:
        return given.enter_context(
            Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8")
        ).fileno(), None
    if stream == subprocess.PIPE:
        ours, theirs = os.pipe()
        given.callback(os.close, theirs)
        return theirs, open(ours, encoding="utf-8")  # noqa: PTH123 - the caller closes it
    return (stream if isinstance(stream, int) else stream.fileno()), None
