"""A service on this machine that takes whatever is posted and answers as the service does, in a process of its own.

A part that benchmarks share. It looks at no byte of a body but counts them: what is measured is the sender.
"""

from __future__ import annotations

import socketserver
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_CHUNK: Final = 1024 * 1024
_ANSWER: Final = b'{"id": "generation-%d", "status": "queued"}'


class _Handler(socketserver.StreamRequestHandler):
    """Takes the requests of one connection, each in a thread that reads into one buffer."""

    def handle(self) -> None:
        buffer = memoryview(bytearray(_CHUNK))
        while request := self.rfile.readline():
            left, name_of_request = 0, b""
            while (line := self.rfile.readline()) not in {b"\r\n", b""}:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    left = int(value)
                elif name.lower() == b"x-client-request-id":
                    name_of_request = value.strip()
            while left:
                got = self.rfile.readinto(buffer[: min(left, _CHUNK)])
                if not got:
                    return
                left -= got
            body = _ANSWER % id(request)
            head = b"content-length: %d\r\nx-client-request-id: %b" % (len(body), name_of_request)
            self.wfile.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (head, body))


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def taking() -> Iterator[str]:
    """Open it; give its address."""
    command = [sys.executable, "-m", "benchmarks.sink"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


if __name__ == "__main__":
    with _Server(("127.0.0.1", 0), _Handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
