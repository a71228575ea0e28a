"""The house keeps its shape: each rule is held by the real tree, and each is shown to catch what breaks it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "kling_async"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
NAMES: dict[str, str] = {contract["id"]: contract["name"] for contract in CONTRACTS}

PLANTS = {
    "floors": {"rules/naming.py": "import kling_async.assembly"},
    "flow": {"flow/service.py": "import kling_async.flow.poller"},
    "verify": {"flow/crew.py": "import kling_async.flow.posts"},
    "doors": {"adapters/files.py": "import kling_async.adapters.http"},
    "assembly": {"cli/app.py": "import kling_async.adapters.http"},
    "acyclic": {"rules/naming.py": "import kling_async.rules.mp4", "rules/mp4.py": "import kling_async.rules.naming"},
    "face": {"rules/naming.py": "from kling_async import ImageToVideo"},
    "simulator": {"simulator/world.py": "import kling_async.rules.wire"},
    "guests": {"flow/service.py": "import kling_async.simulator.world"},
    "pure": {"rules/naming.py": "import time"},
}
"""For each contract, the smallest change that it must catch."""

LONG_FILES = {
    "errors.py": "the whole tree of errors is read in one place",
    "ports.py": "all doors are read in one place",
    "types/record.py": "all that can happen to a row is read in one place",
}
"""Files of more than `LINES` lines, each with the reason why it is not two."""
LINES = 300
BODY_LINES = 50
BACKGROUND = "flow/background.py"
CORE = ("errors.py", "rules/*.py", "types/*.py")

type_ignore = re.compile(r"#\s*type:\s*ignore(?!\[[\w-]+)")
noqa = re.compile(r"#\s*(?:ruff:\s*|flake8:\s*)?noqa(?!:\s*[A-Z]+[0-9]+)", re.IGNORECASE)


def sources(*patterns: str) -> dict[str, Path]:
    """Return the package's modules by their path in it."""
    found = (path for pattern in patterns or ("**/*.py",) for path in PACKAGE.glob(pattern))
    return {path.relative_to(PACKAGE).as_posix(): path for path in sorted(found)}


def nodes(source: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(source))


def lint(tree: Path) -> dict[str, bool]:
    """Run the linter in a tree; return for each contract whether it is kept."""
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", program, "--no-cache"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    verdicts = dict(re.findall(r"^(.+?) (KEPT|BROKEN)\b", done.stdout, re.MULTILINE))
    assert len(verdicts) == len(NAMES), done.stdout + done.stderr
    return {contract: verdicts[name] == "KEPT" for contract, name in NAMES.items()}


def plant(tree: Path, changes: dict[str, str]) -> None:
    """Copy the package into a tree of its own and append a line to some of its modules."""
    shutil.copy(ROOT / "pyproject.toml", tree)
    shutil.copytree(PACKAGE, tree / "kling_async", ignore=shutil.ignore_patterns("__pycache__"))
    for name, line in changes.items():
        with (tree / "kling_async" / name).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")


def long_bodies(source: str) -> Iterator[tuple[str, int]]:
    """Yield each function whose body, its docstring apart, has more than `BODY_LINES` lines."""
    for node in nodes(source):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            if length > BODY_LINES:
                yield node.name, length


def mentions(*names: str) -> Callable[[str], Iterator[str]]:
    """Return a search for names as they are called, reached as attributes or imported."""

    def search(source: str) -> Iterator[str]:
        for node in nodes(source):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name) if name in names:
                    yield name
                case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                    yield from (part for alias in aliases for part in alias.name.split(".")[1:] if part in names)
                case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(name)), *_]) if (
                    name in names
                ):
                    yield name
                case _:
                    pass
            if isinstance(node, ast.ImportFrom):
                yield from (part for part in (node.module or "").split(".") if part in names)

    return search


spawns = mentions("create_task", "ensure_future")
hops = mentions("to_thread")


def builtin_calls(source: str) -> Iterator[str]:
    """Yield each call of a builtin that reaches outside."""
    for node in nodes(source):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"open", "print", "input"}
        ):
            yield node.func.id


def bare_silences(path: Path) -> Iterator[str]:
    """Yield each comment that silences a tool without saying about what."""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT and (type_ignore.search(token.string) or noqa.search(token.string)):
                yield f"{path.name}:{token.start[0]}: {token.string}"


def test_every_contract_is_kept() -> None:
    """The real tree keeps every contract of pyproject.toml."""
    assert lint(ROOT) == dict.fromkeys(NAMES, True)


def test_every_contract_has_its_plant() -> None:
    """No contract stands that was never seen to catch anything."""
    assert set(PLANTS) == set(NAMES)


@pytest.mark.parametrize("contract", PLANTS)
def test_a_contract_catches_its_violation(contract: str, tmp_path: Path) -> None:
    """One forbidden import is enough, and it is this contract that reports it."""
    plant(tmp_path, PLANTS[contract])

    assert not lint(tmp_path)[contract]


@pytest.mark.parametrize(
    ("contract", "room"), [("floors", "attic.py"), ("flow", "flow/attic.py"), ("doors", "adapters/attic.py")]
)
def test_a_room_that_no_contract_knows_is_caught(contract: str, room: str, tmp_path: Path) -> None:
    """A new room has to be given its floor before it can be built."""
    plant(tmp_path, {room: '"""A room on no floor."""'})

    assert not lint(tmp_path)[contract]


@pytest.mark.parametrize("name", ["errors.py", "rules/retry.py", "types/record.py"])
def test_ruff_keeps_the_calendar_out_of_the_core(name: str) -> None:
    """`datetime.now` is refused in the core, under whatever name it comes in."""
    assert "TID251" in banned(name)


def test_ruff_allows_the_calendar_elsewhere() -> None:
    """The ban is the core's alone: adapters read the wall's clock."""
    assert "TID251" not in banned("adapters/http.py")


def banned(name: str) -> str:
    """Return what ruff says of a module of that name that asks for the time."""
    source = "import datetime as calendar\n\nNOW = calendar.datetime.now(calendar.UTC)\n"
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select=TID251", "--output-format=concise"]
    command += ["--stdin-filename", str(PACKAGE / name), "-"]
    return subprocess.run(command, cwd=ROOT, input=source, capture_output=True, text=True, check=False).stdout


def test_the_core_opens_and_prints_nothing() -> None:
    """The builtins that reach outside are not called in the core."""
    assert {
        name: found for name, path in sources(*CORE).items() if (found := [*builtin_calls(path.read_text("utf-8"))])
    } == {}


def test_no_file_is_long_without_a_reason() -> None:
    """A file over 300 lines has more than one subject, or a reason; a reason that is no longer needed goes."""
    long = {name for name, path in sources().items() if len(path.read_text("utf-8").splitlines()) > LINES}

    assert long == set(LONG_FILES)


def test_no_function_is_long() -> None:
    """A function's body, its docstring apart, fits on a page."""
    assert {name: found for name, path in sources().items() if (found := [*long_bodies(path.read_text("utf-8"))])} == {}


def test_one_task_outlives_a_call() -> None:
    """Tasks are born in task groups; the only other one is the background's."""
    found = {name for name, path in sources().items() if [*spawns(path.read_text("utf-8"))]}

    assert found <= {BACKGROUND}


def test_threads_are_entered_by_named_executors() -> None:
    """`to_thread` uses limiters and executors that nobody named, and makes virtual time leap."""
    assert {name for name, path in sources().items() if [*hops(path.read_text("utf-8"))]} == set()


def test_a_silenced_tool_is_told_about_what() -> None:
    """No comment switches a whole tool off for a line, or for a file."""
    folders = (ROOT / name for name in ("kling_async", "tests", "examples", "benchmarks", "scripts"))
    assert [fault for folder in folders for path in sorted(folder.rglob("*.py")) for fault in bare_silences(path)] == []


@pytest.mark.parametrize(
    ("search", "guilty", "innocent"),
    [
        (spawns, "asyncio.create_task(x)", "create_tasks(x)"),
        (spawns, "from asyncio import ensure_future as later", "import asyncio"),
        (spawns, "loop.create_task(x)", "group.start_soon(x)"),
        (hops, "import anyio.to_thread", "import anyio.from_thread"),
        (hops, "from anyio import to_thread", "from anyio import sleep"),
        (hops, "from anyio.to_thread import run_sync", "loop.run_in_executor(pool, f)"),
        (hops, "await asyncio.to_thread(f)", "'to_thread'"),
        (builtin_calls, "with open(x): pass", "path.open()"),
        (builtin_calls, "print(x)", "printer(x)"),
        (long_bodies, "def f():\n" + "    x = 1\n" * 51, "def f():\n" + "    x = 1\n" * 50),
        (long_bodies, "async def f():\n    'd'\n" + "    x = 1\n" * 51, "def f():\n    '''" + "\n" * 60 + "    '''"),
    ],
)
def test_a_search_finds_the_guilty_alone(search: Callable[[str], Iterator[object]], guilty: str, innocent: str) -> None:
    """The rules above that no linter knows are looked for by searches that do find."""
    assert [*search(guilty)]
    assert [*search(innocent)] == []


@pytest.mark.parametrize(
    ("comment", "bare"),
    [
        ("type: ignore", True),
        ("type: ignore[attr-defined]", False),
        ("noqa", True),
        ("noqa: S311", False),
        ("ruff: noqa", True),
        ("ruff: noqa: S311", False),
    ],
)
def test_a_bare_silence_is_heard(comment: str, bare: bool, tmp_path: Path) -> None:  # noqa: FBT001  (a column)
    """A code behind the comment makes the difference."""
    path = tmp_path / "module.py"
    path.write_text(f"x = 1  # {comment}\ny = '# {comment}'\n", "utf-8")

    assert bool([*bare_silences(path)]) is bare
