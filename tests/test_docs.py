"""The documentation says what the program does: each command, flag, setting, error and code, and no other."""

from __future__ import annotations

import ast
import inspect
import re
import runpy
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from attrs import frozen

import kling_async
from kling_async import errors
from kling_async.adapters.columns import FIELDS
from kling_async.cli import app, ends
from kling_async.cli.app import COMMANDS
from kling_async.configuration import ADDRESS_NAMES, KEY_NAMES
from kling_async.flow.batch import Batch
from kling_async.flow.client import KlingClient
from kling_async.types.outcome import BatchReport, Tally
from kling_async.types.settings import SETTING_NAMES, Settings
from tests.flow.test_crashes import POINTS, STEPS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), ROOT / "examples/README.md"])

UNITS = {"s": 1, "GiB": 1024**3, "MiB": 1024**2}
WORDS = {"none": None, "asked": None, "true": True, "false": False}


@frozen
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str


def fenced(path: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    found = re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    for match in found:
        line = match.string.count("\n", 0, match.start()) + 1
        yield Block(path.relative_to(ROOT).as_posix(), line, match[1], match[2])


def prose(path: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def sections(path: Path, *, level: int = 2) -> dict[str, str]:
    """Return the sections of a page by their headings."""
    parts = re.split(rf"^{'#' * level} (.+)$", path.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the tables in a text, their heads apart."""
    lines = text.splitlines()
    for above, line in zip(["", *lines], lines, strict=False):
        if line.startswith("|") and above.startswith("|") and not re.fullmatch(r"[|\s:-]+", line):
            yield [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def code(cell: str) -> list[str]:
    """Return what stands in backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def command(name: str) -> click.Command:
    """Return a command as the program has it."""
    group = app.app
    assert isinstance(group, click.Group)
    found = group.get_command(click.Context(group), name)
    assert found is not None
    return found


def flags_of(name: str) -> set[str]:
    """Return all flags of a command."""
    options = [one for one in command(name).params if isinstance(one, click.Option)]
    return {flag for one in options for flag in (*one.opts, *one.secondary_opts)}


# ------------------------------------------------------------- the command line

COMMAND_LINE = sections(REFERENCE / "command-line.md")


def test_each_command_has_its_section_and_no_other() -> None:
    """The table of commands and the sections name what the program has, in its order."""
    page = (REFERENCE / "command-line.md").read_text("utf-8")
    listed = [code(cells[0])[0].split()[0] for cells in rows(page[: page.index("\n## ")])]
    assert listed == list(COMMANDS)
    assert list(COMMAND_LINE) == [*COMMANDS, "Exit codes"]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "config"])
def test_each_flag_is_told_and_no_other(name: str) -> None:
    """The table of a command has each of its flags, once, and none that it does not have."""
    told = [flag for cells in rows(COMMAND_LINE[name]) for flag in code(cells[0]) if flag.startswith("-")]
    assert len(told) == len(set(told))
    assert set(told) == flags_of(name)


def test_config_takes_the_settings_of_run() -> None:
    """`config` is told to take the flags of `run` that are settings, and `--json`: so it does."""
    settings = {flag for flag in flags_of("run") if flag[2:].removeprefix("no-").replace("-", "_") in SETTING_NAMES}
    assert flags_of("config") == {*settings, "--json"}
    assert "`--json`" in COMMAND_LINE["config"]


def test_what_a_flag_takes_is_told() -> None:
    """Choices and required flags of the program are those of the tables."""
    for name in COMMANDS:
        table = {flag: cells for cells in rows(COMMAND_LINE[name]) for flag in code(cells[0])}
        for option in command(name).params:
            if not isinstance(option, click.Option) or option.opts[0] not in table:
                continue
            _, value, meaning = table[option.opts[0]]
            if isinstance(option.type, click.Choice):
                assert code(value) == list(option.type.choices), option.opts
            assert (not value) == (option.is_flag or option.is_bool_flag), option.opts
            assert ("required" in meaning) == option.required, option.opts


def test_the_summary_has_the_fields_that_are_told() -> None:
    """The table of `run` names each field of the summary, in its order."""
    told = [name for cells in rows(COMMAND_LINE["run"]) for name in code(cells[0]) if not name.startswith("-")]
    assert sorted(told) == sorted(BatchReport(Tally(), Path(), 0.0).summary())


def test_each_exit_code_is_told_and_no_other() -> None:
    """The table of exit codes is that of the program, and has the codes of both signals and of a closed pipe."""
    told = [int(number) for cells in rows(COMMAND_LINE["Exit codes"]) for number in cells[0].split(",")]
    known = {value for name, value in vars(ends).items() if name.isupper() and isinstance(value, int)}
    assert len(told) == len(set(told))
    assert set(told) == known | {130, 143, app.READER_GONE}
    assert told.index(ends.IN_USE) < told.index(ends.USAGE) < told.index(ends.KEY) < told.index(ends.MONEY)
    assert told.index(ends.MONEY) < told.index(ends.UNAVAILABLE) < told.index(ends.ROWS_FAILED) < told.index(ends.OK)


# ------------------------------------------------------------------- settings


def default_of(cell: str) -> Any:
    """Read a default as it is told: `15 s`, `2 GiB`, `none`."""
    text = cell.strip("`")
    number, _, unit = text.partition(" ")
    if unit in UNITS:
        return float(number.replace(",", "")) * UNITS[unit]
    return WORDS[text] if text in WORDS else int(text) if text.isdecimal() else text


def test_each_setting_is_told_with_its_default() -> None:
    """The tables of settings have each name once, with its default; the key has a table of its own."""
    page = sections(REFERENCE / "settings.md")
    told = [(code(cells[0])[0], default_of(cells[1])) for cells in rows(page["All settings"])]
    real = {name: value for name, value in Settings().flat().items() if name != "api_key"}
    assert sorted(name for name, _ in told) == sorted(real)
    assert dict(told) == real


def test_the_names_in_the_environment_are_told_in_their_order() -> None:
    """Key and address: which variables, and which goes first."""
    cells = list(rows(sections(REFERENCE / "settings.md")["The key and the address"]))
    assert [tuple(code(variables)) for _, variables in cells] == [KEY_NAMES, ADDRESS_NAMES]


# --------------------------------------------------------------------- errors

TREE = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.KlingError)
}


def drawn(text: str) -> dict[str, str]:
    """Read a drawn tree: each name, and the one above it."""
    above: list[str] = []
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r"[│├└─ ]*(?=[A-Z])(\w+)", line)
        if match:
            depth = match.start(1) // 3
            above[depth:] = [match[1]]
            found[match[1]] = above[depth - 1] if depth else ""
    return found


@pytest.mark.parametrize("where", ["the page", "the docstring"])
def test_the_tree_of_errors_is_drawn_as_it_is(where: str) -> None:
    """Each error stands in the tree, under the one that it is a kind of; and no other name."""
    page = next(fenced(REFERENCE / "errors.md")).text
    text = page if where == "the page" else textwrap.dedent((errors.__doc__ or "").split("\n\n")[2])
    real = {name: kind.__base__.__name__ if kind.__base__ else "" for name, kind in TREE.items()}
    assert drawn(text) == {**real, "KlingError": ""}


def test_what_an_error_carries_is_there() -> None:
    """The fields drawn beside an error are its own."""
    for line in next(fenced(REFERENCE / "errors.md")).text.splitlines():
        name = re.search(r"[A-Z]\w+", line)
        for field in re.findall(r"(?<=\.)[a-z_]+", line):
            assert name is not None
            assert any(field in inspect.signature(kind).parameters for kind in TREE[name[0]].__mro__[:-3]), line


def test_each_error_has_its_advice_and_no_other() -> None:
    """The table says for each kind of error what to do; those that only gather others have none."""
    told = [name for cells in rows(sections(REFERENCE / "errors.md")["What to do"]) for name in code(cells[0])]
    gatherers = {kind.__base__.__name__ for kind in TREE.values() if kind.__base__} - {"ConfigurationError", "NotSent"}
    assert len(told) == len(set(told))
    assert set(told) == set(TREE) - gatherers


# ------------------------------------------------------------------ durability

DURABILITY = DOCS / "explanation/durability.md"
DRAW = "scripts/draw_lifecycle.py"


def test_the_life_of_a_row_is_drawn_as_it_is() -> None:
    """The diagram and the tables of stages and transitions are what the table that runs makes of them."""
    page = DURABILITY.read_text("utf-8")
    assert runpy.run_path(str(ROOT / DRAW))["drawn"](page) == page, f"draw it anew: python {DRAW}"


def test_a_drawing_that_is_out_of_date_is_seen() -> None:
    """A transition more, less, or with another end: drawn anew, the page would be another."""
    page, drawn = DURABILITY.read_text("utf-8"), runpy.run_path(str(ROOT / DRAW))["drawn"]
    arrow, row = "    RENDERED --> DONE: Stored\n", "| RENDERED | `Stored` | DONE |"
    assert page.count(arrow) == page.count(row) == 1
    for wrong in (
        page.replace(arrow, ""),
        page.replace(arrow, arrow * 2),
        page.replace(row, row.replace("DONE", "FAILED")),
    ):
        assert wrong != page
        assert drawn(wrong) == page


def test_the_order_of_writes_is_told() -> None:
    """The steps of the page are those that a test sees a row take, in that order."""
    table = rows(sections(DURABILITY)["What is written when"])
    assert tuple(code(cells[0])[0] for cells in table) == STEPS


def test_each_crash_is_told_as_it_is_tested() -> None:
    """Each line of the page is a case of the test that makes the crash: where the row is found, and where it ends."""
    table = list(rows(sections(DURABILITY)["What each crash leaves"]))
    told = {code(cells[0])[0]: (cells[2], cells[4]) for cells in table}
    assert len(told) == len(table)
    assert list(told.items()) == [
        (name, (point.found.name if point.found else "", point.ends.name)) for name, point in POINTS.items()
    ]


# ------------------------------------------------------------- code and commands

BLOCKS = [block for path in PAGES for block in fenced(path)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHELL = [block for block in BLOCKS if block.language in {"console", "sh", "bash"}]
METHODS = {"client": KlingClient, "batch": Batch}


def place(block: Block) -> str:
    return f"{block.page}:{block.line}"


def parsed(block: Block) -> ast.Module:
    tree = compile(block.text, place(block), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(tree, ast.Module)
    return tree


@pytest.mark.parametrize("block", PYTHON, ids=place)
def test_python_in_the_docs_names_what_there_is(block: Block) -> None:
    """It parses; what it imports from here exists; so do the methods and the parameters that it uses."""
    assert not list(wrong_names(parsed(block)))


def wrong_names(tree: ast.Module) -> Iterator[str]:
    """Yield what a tree takes for ours, and what is not there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kling_async"):
            home = __import__(node.module or "", fromlist=["*"])
            yield from (name.name for name in node.names if not hasattr(home, name.name))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            kind = METHODS.get(node.value.id)
            if kind is not None and not hasattr(kind, node.attr):
                yield f"{node.value.id}.{node.attr}"
        if isinstance(node, ast.Call):
            yield from wrong_parameters(node)


def wrong_parameters(call: ast.Call) -> Iterator[str]:
    """Yield the named arguments that a call of ours does not take."""
    function: Any = None
    if isinstance(call.func, ast.Name) and call.func.id[0] != "_":
        function = getattr(kling_async, call.func.id, None)
    elif isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
        function = getattr(METHODS.get(call.func.value.id), call.func.attr, None)
    if function is None:
        return
    taken = inspect.signature(function).parameters
    settings = SETTING_NAMES if any(one.kind is one.VAR_KEYWORD for one in taken.values()) else ()
    for keyword in call.keywords:
        if keyword.arg is not None and keyword.arg not in {*taken, *settings}:
            yield f"{ast.unparse(call.func)}({keyword.arg}=…)"


def commands_in(block: Block) -> Iterator[list[str]]:
    """Yield the arguments of each call of the program in a block."""
    for line in block.text.splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if "kling-async" in words and not line.startswith(("export", "pip")):
            yield words[words.index("kling-async") + 1 :]


@pytest.mark.parametrize("block", SHELL, ids=place)
def test_commands_in_the_docs_can_be_given(block: Block) -> None:
    """Each call of the program names a command, flags that it has, and values that they take."""
    for arguments in commands_in(block):
        if arguments in (["--help"], ["--version"]):
            continue
        name, *rest = arguments
        assert name in COMMANDS, arguments
        command(name).make_context(name, rest)


def test_the_docs_have_code_and_commands() -> None:
    """The checks above have something to check."""
    assert len(PYTHON) > 5
    assert sum(len(list(commands_in(block))) for block in SHELL) > 8


def test_the_columns_of_a_manifest_are_told() -> None:
    """The table of columns has each name that has a meaning, under the field it fills."""
    table = sections(DOCS / "how-to/run-a-bulk-job.md")["Write the manifest"]
    told = {name: code(cells[0])[0] for cells in rows(table) for name in (*code(cells[0]), *code(cells[1]))}
    assert told == FIELDS


# ---------------------------------------------------------------------- links


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    """Each relative link of a page leads to a file that is there, and each anchor to a heading."""
    text = re.sub(r"`[^`\n]*`", "", prose(path))
    targets = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'(?:src|href)="([^"]+)"', text)]
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_each_page_can_be_found() -> None:
    """Each page is in the navigation, or is a record in the list of decisions; and nothing else stands there."""
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    listed = set(re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text("utf-8")))
    records = re.findall(r"\((\d{4}-[\w-]+\.md)\)", (DOCS / "decisions/README.md").read_text("utf-8"))
    assert listed | {f"decisions/{name}" for name in records} == pages
