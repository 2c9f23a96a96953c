"""The blocks of code in the documentation: read, and run as a reader would run them."""

import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass
from glob import glob
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

#: Kinds of blocks that are run; all others are directives of MyST, or plain text.
RUN = ("bash", "python")

_FENCE = re.compile(r"^(```+)(\S*)[^\n]*\n(.*?)^\1[ ]*$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- not run: ([^>]+) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes
    ----------
    page : str
        Name of its page, without ending.
    line : int
        Where it begins.
    language : str
        Language after the fence.
    text : str
        Its content.
    reason : str
        Why it is not run; empty if it is run.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str


def find_blocks(page: Path) -> list[Block]:
    """Return the blocks of a page; a comment right above one says why it is not run."""
    source = page.read_text(encoding="utf-8")
    blocks = []
    for fence in _FENCE.finditer(source):
        before = source[: fence.start()]
        mark = _MARK.search(before)
        reason = mark[1].strip() if mark else ""
        blocks.append(Block(page.stem, before.count("\n") + 1, fence[2], fence[3], reason))
    return blocks


def commands(text: str) -> list[list[str]]:
    """Return the words of each command of a block, comments left out.

    Examples
    --------
    >>> commands('# first\\nquicksilver apply --input "a b.nii" \\\\\\n    --output c.nii\\n')
    [['quicksilver', 'apply', '--input', 'a b.nii', '--output', 'c.nii']]
    """
    lines = text.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def expanded(words: list[str]) -> list[str]:
    """Return words in which each pattern with a `*` is replaced by the names of files."""
    return [name for word in words for name in (sorted(glob(word)) if "*" in word else [word])]


def run_command(words: list[str]) -> None:
    """Run one command in the current folder; `quicksilver` and Python's files in this process."""
    from nipype_quicksilver.cli.main import main

    words = expanded(words)
    if words[0] == "quicksilver":
        assert main(words[1:]) == 0, words
    elif words[0] == "python" and words[1].endswith(".py"):
        runpy.run_path(str(ROOT / words[1]))["main"](words[2:])
    elif words[:2] == ["python", "-c"]:
        run_python(words[2], words[2], {})
    elif words[:2] == ["python", "-m"]:
        subprocess.run([sys.executable, *words[1:]], check=True)
    else:
        raise AssertionError(f"cannot run '{words[0]}': write above the block why it is not run")


def run_python(text: str, name: str, namespace: dict) -> None:
    """Run Python code, which sees what earlier blocks of the page defined."""
    exec(compile(text, name, "exec"), namespace)
