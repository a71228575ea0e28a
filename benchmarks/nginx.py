"""A file host on this machine: nginx with a configuration and a certificate of its own, in a folder that goes away.

A part that benchmarks share. It must never touch the machine's own nginx, nor outlive the block that it serves.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import frozen

_BEGINS_WITHIN: Final = 10.0
"""Seconds for nginx to begin."""

_CONFIGURATION: Final = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
worker_processes 1;
{user}{affinity}
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type video/mp4;
    sendfile on;
    tcp_nopush on;
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{secure} ssl;
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/key.pem;
        root {files};
    }}
}}
"""


@frozen
class Host:
    """Where it serves."""

    http: str
    """The address without TLS."""
    https: str
    """The address with it."""
    certificate: Path
    """Its own certificate, which nobody else knows."""


def missing(*others: str) -> str | None:
    """Tell what must be installed first, if anything: what it takes to serve, and other programs."""
    wanted = {"nginx": "nginx-light", "openssl": "openssl", **{name: name for name in others}}
    lacking = [package for name, package in wanted.items() if not _found(name)]
    return f"missing: {', '.join(lacking)}. On Debian: apt-get install -y {' '.join(lacking)}" if lacking else None


def _found(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")


@contextmanager
def serving(files: Path, folder: Path) -> Iterator[Host]:
    """Serve a folder's files on the last core; what it needs itself lies in the other folder."""
    _certify(folder)
    plain, secure = _free_ports(2)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            folder=folder,
            files=files,
            plain=plain,
            secure=secure,
            user="user root;\n" if os.geteuid() == 0 else "",  # it reads a folder that is its owner's alone
            affinity=_affinity(),
        )
    )
    program = _found("nginx")
    assert program is not None
    command = [program, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(configuration)]
    with subprocess.Popen(command) as it:
        try:
            for port in (plain, secure):
                _await(port, it, folder / "error.log")
            base = "://127.0.0.1:"
            yield Host(f"http{base}{plain}", f"https{base}{secure}", folder / "certificate.pem")
        finally:
            it.terminate()


def _affinity() -> str:
    """Bind the server to the last core, so that it does not wander over those of the clients."""
    cores = os.cpu_count() or 1
    return f"worker_cpu_affinity 1{'0' * (cores - 1)};" if sys.platform == "linux" and cores > 1 else ""


def _certify(folder: Path) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run([*command.split(), *names], cwd=folder, check=True, capture_output=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _await(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    latest = time.monotonic() + _BEGINS_WITHIN
    while server.poll() is None and time.monotonic() < latest:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"nginx does not begin: {log.read_text() if log.exists() else 'it told nothing'}")
