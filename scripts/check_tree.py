"""Check that no file names what only one machine knows: a package index, a home folder, the place of this tree.

A pinned requirement that records where it came from, or a path that leaked into a file, works for one person and
fails for all others. It reads what git would commit and changes nothing.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EVERYWHERE = {
    "a package index": re.compile(r"\b(?:pypi|pythonhosted|npmjs|debian|crates)[.](?:org|com|io)\b", re.IGNORECASE),
    "a home folder": re.compile(r"(?<![\w.:/-])/(?:home|root|Users)/[\w.-]+"),
}
"""What no file may name. A tree right below the root stands at a place too short to be told from a word."""
if len(ROOT.parts) > 2:
    EVERYWHERE["the place of this tree"] = re.compile(rf"(?<![\w.-]){re.escape(str(ROOT))}(?![\w-])")
IN_REQUIREMENTS = {
    "an option of the installer": re.compile(r"^\s*-"),
    "an address": re.compile(r"://|^\s*(?:#\s+(?:via\s+)?)?/"),
}
"""What a pinned requirement may not hold besides."""


def list_files() -> list[Path]:
    """Return the files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    return [ROOT / name for name in sorted(set(listing.decode().split("\0"))) if name and (ROOT / name).is_file()]


def find_faults(path: Path) -> Iterator[str]:
    """Yield a line for each thing that the file should not name; files that are not text name nothing."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        return
    where = path.relative_to(ROOT)
    patterns = EVERYWHERE | (IN_REQUIREMENTS if where.parts[0] == "requirements" else {})
    for number, line in enumerate(lines, 1):
        for what, pattern in patterns.items():
            if found := pattern.search(line):
                yield f"{where}:{number}: names {what}: {found.group().strip()}"


def main() -> int:
    """Check every file; return 1 if one is at fault."""
    try:
        files = list_files()
    except (OSError, subprocess.CalledProcessError):
        print("tree: not a git work tree, so there is nothing to check")
        return 0
    faults = [fault for path in files for fault in find_faults(path)]
    print("\n".join(faults) if faults else f"tree: {len(files)} files name no package index, home folder or place")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
