"""docs/faults.md has every row of the list, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    (int(number), fault.strip(), shown.strip())
    for number, fault, shown in re.findall(
        r"^\| (\d+) \|([^|]+)\|(.+)\|$", (ROOT / "docs" / "faults.md").read_text(encoding="utf-8"), re.MULTILINE
    )
]


@cache
def _functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_row_is_there_once_and_in_order() -> None:
    assert [number for number, _, _ in ROWS] == list(range(1, 83))


def test_every_report_falls_into_a_row() -> None:
    text = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| row (\d+) \| ([\d, ]+) \|$", text, re.MULTILINE)
    assert {int(row) for row, _ in table} <= {number for number, _, _ in ROWS}
    assert sorted(int(number) for _, found in table for number in found.split(",")) == list(range(1, 68))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row[0]))
def test_a_row_names_tests_that_exist(row: tuple[int, str, str]) -> None:
    number, fault, shown = row
    named = re.findall(r"`([\w/]+\.py)`::(test_\w+)", shown)
    assert fault and named, f"row {number} names no test"
    for file, name in named:
        path = ROOT / "tests" / file
        assert path.is_file(), f"row {number} names {file}, which is not there"
        assert name in _functions(path), f"row {number} names {name}, which is not in {file}"
