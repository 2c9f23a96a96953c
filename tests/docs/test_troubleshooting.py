"""Every message that the documentation explains is one that the package can print today."""

import ast
import re

import pytest

from tests.helpers.blocks import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"^`(.+)`\n: ", PAGE, re.MULTILINE)
OF_NIPYPE = {'No command "dot" found', "Insufficient GPU resources available for job"}


def template(node):
    """Return a regular expression of a string in the sources, or None if it is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(re.sub(r"%[sd]", "\0", node.value)).replace("\0", ".+")
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) for part in node.values)
    return ".+" if isinstance(node, ast.FormattedValue) else None


@pytest.fixture(scope="module")
def templates():
    """All strings of the package that say something, with wildcards for what they fill in."""
    found = set()
    for folder in (ROOT / "nipype_quicksilver", ROOT / "workflows"):
        for path in folder.rglob("*.py"):
            found |= {template(node) for node in ast.walk(ast.parse(path.read_text()))}
    single = (text for text in found if text and "\n" not in text)
    return [re.compile(text) for text in single if len(re.findall("[a-z]{3,}", text)) >= 2]


@pytest.mark.parametrize("message", QUOTED)
def test_message_exists(message, templates):
    if message in OF_NIPYPE:
        return
    # A warning may consist of a file and a message about it.
    bare = re.sub(r"^FILE: ", "", message)
    assert any(text.fullmatch(m) for text in templates for m in (message, bare)), message


def test_there_are_messages():
    assert len(QUOTED) > 30 and len(set(QUOTED)) == len(QUOTED)


def test_a_message_that_nobody_prints_is_found(templates):
    assert not any(text.fullmatch("FILE: is purple; paint it") for text in templates)
