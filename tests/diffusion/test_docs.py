from __future__ import annotations

from pathlib import Path

from nodes.diffusion.families import FAMILIES

DOCS = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_table_of_families_is_the_one_in_the_code() -> None:
    lines = DOCS.read_text().partition("## Files")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    assert dict(rows) == {family.name: ", ".join(family.pipelines) for family in FAMILIES}
