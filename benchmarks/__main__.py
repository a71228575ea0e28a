"""Run every module of this folder that can be run by itself, one after the other.

    python -m benchmarks [--full] [PART_OF_A_NAME ...]

A module is a benchmark if it defines `main`; the others are parts that benchmarks share. `--full` is handed to those
that know it: without it they are quick. It never runs two at once:
they would measure each other.
"""

import ast
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def is_benchmark(path: Path) -> bool:
    """Tell whether the module defines `main` at its top."""
    body = ast.parse(path.read_text("utf-8"), str(path)).body
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "main" for node in body)


def knows_full(path: Path) -> bool:
    """Tell whether the module has a flag `--full`."""
    tree = ast.parse(path.read_text("utf-8"), str(path))
    return any(isinstance(node, ast.Constant) and node.value == "--full" for node in ast.walk(tree))


def main(words: list[str]) -> int:
    """Run them; return how many failed."""
    parts = [word for word in words if word != "--full"]
    found = [path.stem for path in sorted(HERE.glob("[!_]*.py")) if is_benchmark(path)]
    wanted = [name for name in found if not parts or any(part in name for part in parts)]
    if not wanted:
        print(f"bench: no benchmark to run; {len(found)} in benchmarks/: {', '.join(found) or 'none yet'}")
        return 1 if parts else 0
    failed = []
    for name in wanted:
        print(f"== {name}", flush=True)
        full = ["--full"] if "--full" in words and knows_full(HERE / f"{name}.py") else []
        command = [sys.executable, "-m", f"benchmarks.{name}", *full]
        if subprocess.run(command, cwd=HERE.parent, check=False).returncode:
            failed.append(name)
    print(f"bench: {len(wanted) - len(failed)} run, {len(failed)} failed{': ' + ', '.join(failed) if failed else ''}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
