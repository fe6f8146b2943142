"""The tables of docs/simulation.md: the command that the page names makes just those that it shows."""

from __future__ import annotations

import runpy
from pathlib import Path

from tests.support.house import ROOT

PAGE = (ROOT / "docs" / "simulation.md").read_text()
SCRIPT = ROOT / "examples" / "compare_policies.py"


def test_the_command_of_the_page_finds_all_its_tables() -> None:
    assert "python examples/compare_policies.py docs/simulation.md" in PAGE
    script = runpy.run_path(str(SCRIPT))
    tables = list(script["SECTION"].finditer(PAGE))
    assert [table["name"] for table in tables] == ["steady", "bursts", "days", "large-and-small"]
    assert sum(len(table[0].splitlines()) - len(table[1].splitlines()) for table in tables) == 4 * (2 + 7)
    assert all((ROOT / "docs" / "pictures" / f"{table['name']}.png").is_file() for table in tables)


def test_a_table_is_written_anew_between_what_is_around_it(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    page = tmp_path / "page.md"
    lead = "**[Steady](../examples/scenarios/steady.yaml)**: many users.\n\n"
    page.write_text(f"before\n\n{lead}| old |\n| --- |\n| 1 |\n\nafter\n")
    script = runpy.run_path(str(SCRIPT))
    script["rerun"].__globals__["POLICIES"] = "binpack,spread"
    script["rerun"](page)
    head, table, tail = page.read_text().partition(lead)[2].partition("\nafter\n")
    rows = [row.split(" | ") for row in head.splitlines()]
    assert [row[0] for row in rows] == ["| placement", "| ---", "| `binpack`", "| `spread`"]
    assert {len(row) for row in rows} == {7}
    assert (table, tail) == ("\nafter\n", "")
    assert (tmp_path / "pictures" / "steady.png").is_file()
