"""Every block of code in the documentation runs, on brains small enough to register in seconds."""

import shutil
from dataclasses import replace

import pytest

from tests.docs.blocks import PAGES, RUN, commands, find_blocks, run_command, run_python

BLOCKS = [block for page in PAGES for block in find_blocks(page)]
WITH_CODE = [page for page in PAGES if any(b.language in RUN for b in find_blocks(page))]

#: Names in the documentation, and what is taken for them: one of those in `sources`.
FILES = {
    "fixed_T1w.nii.gz": "fixed",
    "moving_T1w.nii.gz": "moving",
}


def test_all():
    for b in BLOCKS: print(b.page,b.line,b.language,b.text[:70])
