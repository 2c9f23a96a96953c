"""Every block of code in the documentation runs, on brains small enough to register in seconds."""

import pytest

from tests.docs.conftest import FILES
from tests.helpers.blocks import PAGES, RUN, commands, find_blocks, run_command, run_python

BLOCKS = [block for page in PAGES for block in find_blocks(page)]
CODE = {
    page.stem: [block for block in find_blocks(page) if block.language in RUN] for page in PAGES
}
#: Blocks that need what a test has not: package registries, hours, several GPUs.
MOST_NOT_RUN = 25


@pytest.mark.parametrize("page", [page for page, blocks in CODE.items() if blocks])
def test_page(page, reader):
    """Run the blocks of a page one after the other, as somebody who reads it would."""
    namespace = {"__name__": page}
    for block in CODE[page]:
        if block.reason:
            continue
        if block.language == "python":
            run_python(block.text, f"{page}.md, line {block.line}", namespace)
            continue
        for words in commands(block.text):
            run_command(words)


def test_every_block_is_of_a_known_kind():
    assert len(BLOCKS) > 40
    for block in BLOCKS:
        assert block.language in (*RUN, "text") or block.language.startswith("{"), block


def test_few_blocks_are_not_run():
    reasons = [block.reason for block in BLOCKS if block.reason]
    assert len(reasons) <= MOST_NOT_RUN, reasons
    assert all(len(reason) > 10 for reason in reasons)


def test_every_file_is_named():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert not [name for name in FILES if name not in text]
