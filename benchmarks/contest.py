"""The contenders of `whole_job` and `robustness`, their environments, and one run of one of them against the stand-in.

Each peer gets an environment of its own in `.bench/`, made on first use and kept; ours and the floor use the project's.
"""

from __future__ import annotations

import heapq
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from benchmarks.peers.frame import PICTURE, Task
from benchmarks.standin.plan import Plan, Seen
from kling_async.simulator.clips import free_box, read_template

ROOT: Final = Path(__file__).resolve().parent.parent
CACHE: Final = ROOT / ".bench"
TITLE: Final = 64
"""Characters of the title that a video carries."""
ENDS: Final = {True: (0, 3), False: (0,)}
"""How the command line may end (3: rows failed or set aside), and how a contender's program may."""


@frozen
class Contender:
    """One of those who turn rows into files."""

    name: str
    """What the tables call it."""
    module: str
    """Its program in `benchmarks.peers`; empty: the command line of the project."""
    needs: str = ""
    """The package that its environment gets; empty: the project's own environment."""


COMMAND_LINE: Final = Contender("kling_async, command line", "")
LIBRARY: Final = Contender("kling_async, library", "ours")
FLOOR: Final = Contender("bare aiohttp loop", "floor")
VENDOR: Final = Contender("aimlapi-sdk-python", "vendor", "aimlapi-sdk-python==2.24.0rc1")
ALL: Final = (
    FLOOR,
    LIBRARY,
    COMMAND_LINE,
    VENDOR,
    Contender("openai", "openai", "openai==3.54.0"),
    Contender("fal-client", "fal", "fal-client==1.0.3"),
    Contender("replicate", "replicate", "replicate==1.0.7"),
    Contender("runwayml", "runway", "runwayml==5.24.0"),
    Contender("lumaai", "luma", "lumaai==1.21.0"),
)


@frozen
class Result:
    """One run of one contender."""

    seen: Seen
    """What the stand-in saw."""
    cpu: float
    """Seconds of CPU from the first row to the last, of the whole process for the command line."""
    memory: int
    """Bytes of memory at the most."""
    took: float
    """Seconds from the first submit to the end."""
    whole: int
    """Rows whose file is whole."""
    bad: int
    """Rows whose file is not."""
    errors: Mapping[str, int] = field(factory=dict)
    """How often each error ended a row, as far as it says so."""


def python_of(contender: Contender) -> str:
    """Return the interpreter of a contender; make its environment first, if need be.

    Raises:
        subprocess.CalledProcessError: It cannot be installed; the installer has said why.
    """
    if not contender.needs:
        return sys.executable
    place = CACHE / contender.module
    python, stamp = place / "bin" / "python", place / "installed"
    if python.exists() and stamp.exists() and stamp.read_text() == contender.needs:
        return str(python)
    shutil.rmtree(place, ignore_errors=True)
    CACHE.mkdir(exist_ok=True)
    uv = shutil.which("uv", path=f"{os.environ.get('PATH', '')}{os.pathsep}{Path(sys.executable).parent}")
    if uv:
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, place], check=True)
        install = [uv, "pip", "install", "--quiet", "--prerelease", "allow", "--python", str(python)]
    else:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, contender.needs], check=True)
    stamp.write_text(contender.needs)
    return str(python)


def is_there(contender: Contender) -> bool:
    """Make a contender's environment; say so where that cannot be done."""
    try:
        python_of(contender)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"  {contender.name} is left out: its environment cannot be made ({error})")
        return False
    return True


@contextmanager
def standin(plan: Plan) -> Iterator[str]:
    """Run a stand-in; give its address."""
    command = [sys.executable, "-m", "benchmarks.standin", plan.to_json()]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield f"http://127.0.0.1:{port}"


def report(address: str) -> Seen:
    """Ask a stand-in what it saw."""
    with urllib.request.urlopen(f"{address}/standin/report") as answer:  # noqa: S310  # the loopback address
        return Seen.from_json(answer.read())


def command(contender: Contender, task: Task) -> list[str]:
    """Return the command of a contender; write the manifest that ours reads."""
    if contender.module:
        return [python_of(contender), "-m", f"benchmarks.peers.{contender.module}", task.to_json()]
    manifest = Path(task.folder).with_suffix(".csv")
    if not manifest.exists():
        rows = (f"{task.key(number)},{PICTURE},{task.prompt(number)}\n" for number in range(task.rows))
        manifest.write_text("key,image,prompt\n" + "".join(rows))
    return [sys.executable, "-m", "kling_async", "run", str(manifest), "--out", task.folder, "--yes", "--quiet"]


def environment(task: Task) -> dict[str, str]:
    """Return the environment of a run: ours reads its settings there. All its times are squeezed like the service's."""
    settings = {
        "poll_lag": 0.02 * 240.0 / task.squeeze,  # its default, 2 %, which is never less than 0.2 s
        "poll_interval_min": max(0.01, 0.2 / task.squeeze),
        "poll_interval_max": max(0.1, 60.0 / task.squeeze),
        "backoff_first": max(0.1, 1.0 / task.squeeze),
        "backoff_cap": max(1.0, 60.0 / task.squeeze),
        "max_in_flight": task.at_once,
        **({} if task.timeout is None else {"submit_timeout": task.timeout}),
    }
    return {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        **{f"KLING_ASYNC_{name.upper()}": str(value) for name, value in settings.items()},
        "AIMLAPI_API_KEY": "standin-key",
        "RUNWAYML_API_SECRET": "standin-key",
        "AIMLAPI_BASE_URL": task.address,
        "PYTHONPATH": str(ROOT),
    }


def contend(contender: Contender, task: Task, plan: Plan, *, kill_after: float | None = None) -> Result:
    """Let a contender do a task, and look at what it left.

    Args:
        contender: Who.
        task: What; its folder is made here.
        plan: Of the stand-in that it has at `task.address`.
        kill_after: Kill it after so many seconds from its first submit, and start it again.
    """
    folder = Path(task.folder)
    words = command(contender, task)
    folder.mkdir(parents=True)
    if kill_after is not None:
        _killed(words, task, kill_after)
    told, cpu, memory = _finished(words, task)
    seen, ended = report(task.address), time.monotonic()
    if contender.module:
        cpu, ended = told["cpu"], told["ended"]
    videos = folder / "videos" if contender in {COMMAND_LINE, LIBRARY} else folder
    whole, bad = judged(videos, task, seen, plan.clip)
    return Result(seen, cpu, memory, ended - seen.first, whole, bad, told.get("errors", {}))


def _finished(words: list[str], task: Task) -> tuple[dict[str, Any], float, int]:
    """Run a command to its end; return what it printed last, its CPU seconds and its memory in bytes."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(words, cwd=ROOT, env=environment(task), stdout=out, stderr=complaints)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        complaints.seek(0)
        if process.returncode not in ENDS[words[2] == "kling_async"]:
            last = complaints.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"{words[2]} ended with {process.returncode}: {last}")
        told = {} if words[2] == "kling_async" else json.loads(out.read().splitlines()[-1])
        return told, used.ru_utime + used.ru_stime, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _killed(words: list[str], task: Task, after: float) -> None:
    """Run a command, and kill it so many seconds after its first submit."""
    with subprocess.Popen(
        words, cwd=ROOT, env=environment(task), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while not report(task.address).submits and process.poll() is None:
            time.sleep(0.05)
        time.sleep(after)
        process.send_signal(signal.SIGKILL)


def judged(folder: Path, task: Task, seen: Seen, clip: int) -> tuple[int, int]:
    """Count the rows whose file is whole, and those whose file is anything else.

    Whole is: byte for byte the video of a generation that was sold.
    """
    master, whole, bad = read_template(5), 0, 0
    tail, sold = master.tail + free_box(clip - master.size), set(seen.titles)
    for number in range(task.rows):
        file = folder / task.file(number).name
        if file.exists():
            content, at = file.read_bytes(), len(master.head)
            title, rest = content[at : at + TITLE].decode("latin-1"), content[at + TITLE :]
            fine = content.startswith(master.head) and title in sold and rest == tail
            whole, bad = whole + fine, bad + (not fine)
    return whole, bad


def ideal(seen: Seen, at_once: int) -> float:
    """Return the seconds that the same generations take where each begins the moment that a place is free."""
    places = [0.0] * at_once
    for length in seen.lengths:
        heapq.heappush(places, heapq.heappop(places) + length)
    return max(places)
