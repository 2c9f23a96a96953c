"""The tables of `docs/options.md` are made from the declarations of the options."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_tables_are_those_of_the_declarations():
    spec = importlib.util.spec_from_file_location("option_table", DOCS / "option_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (DOCS / "options.md").read_text(encoding="utf-8")
    for table in (module.meanings(), module.interfaces()):
        assert f"\n\n{table}\n" in page, "take the tables of: python docs/option_table.py"
