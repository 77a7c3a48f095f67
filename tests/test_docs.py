"""The pages tell the truth: what they name exists, and what they call held has a test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "napari_cellenhance"
TESTS = ROOT / "tests"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
REQUIREMENTS = ROOT / "docs" / "requirements.md"

COUNTS = {"A": 22, "B": 20, "C": 20, "D": 20, "E": 18, "X": 12}
HELD_NOW = frozenset("A1 A6 A7 A8 A10 A11 A12 A18 A22 X1 X2 X3 X5 X6 X8".split())  # noqa: SIM905
"""Promised with the first release: these may not fall back."""

_PATH = re.compile(r"`([\w./*-]*(?:/|\.(?:py|yaml|toml|json|md|cff)))`")
_TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
_BENCHMARK = re.compile(r"`(benchmarks/\w+\.py)`")


class Row(NamedTuple):
    id: str
    priority: str
    promise: str
    state: str
    shown_by: str

    @property
    def tests(self) -> list[tuple[str, str]]:
        return _TEST.findall(self.shown_by)

    @property
    def benchmarks(self) -> list[str]:
        return _BENCHMARK.findall(self.shown_by)


@cache
def _rows() -> tuple[Row, ...]:
    def cells() -> Iterator[list[str]]:
        for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
            if re.match(r"\| [A-EX]\d+ \|", line):
                yield [cell.strip() for cell in line.strip("|").split("|")]

    return tuple(Row(*cell) for cell in cells())


@cache
def _functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _ids(row: Row) -> str:
    return row.id


# --- architecture ------------------------------------------------------------------------


def _paths_of_the_page() -> list[str]:
    return sorted(set(_PATH.findall(ARCHITECTURE.read_text(encoding="utf-8"))))


def test_the_page_names_paths() -> None:
    assert len(_paths_of_the_page()) > 40


@pytest.mark.parametrize("path", _paths_of_the_page())
def test_every_path_of_the_architecture_exists(path: str) -> None:
    assert (ROOT / path).exists() or (SOURCE / path).exists(), f"docs/architecture.md names {path}, which is not there"


def test_every_public_module_is_on_the_page() -> None:
    named = set(_paths_of_the_page())
    modules = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if not path.name.startswith("_")}
    assert modules - named == set(), "docs/architecture.md does not say what these hold"


# --- requirements ------------------------------------------------------------------------


def test_every_requirement_is_listed_once_in_order() -> None:
    expected = [f"{letter}{number}" for letter, count in COUNTS.items() for number in range(1, count + 1)]
    assert [row.id for row in _rows()] == expected
    assert len(expected) == 112


@pytest.mark.parametrize("row", _rows(), ids=_ids)
def test_a_row_is_complete_and_honest(row: Row) -> None:
    assert row.priority in ("M", "S", "C")
    assert row.promise
    assert row.state in ("held", "part", "planned")
    if row.state == "held":
        assert row.tests or row.benchmarks, f"{row.id} is called held, but nothing shows it"
    if row.state == "part":
        assert row.tests or row.benchmarks, f"{row.id}: nothing shows the part that is there"
        assert "Missing:" in row.shown_by, f"{row.id}: what is missing?"
    if row.state == "planned":
        assert not row.tests, f"{row.id} has a test, so part of it is there"
        assert row.shown_by.endswith("."), f"{row.id}: say in plain words what is missing"


@pytest.mark.parametrize("row", _rows(), ids=_ids)
def test_what_a_row_names_exists(row: Row) -> None:
    for file, name in row.tests:
        path = TESTS / file
        assert path.is_file(), f"{row.id} names {file}, which is not there"
        assert name in _functions(path), f"{row.id} names {name}, which is not in {file}"
        assert name.startswith("test_")
    for benchmark in row.benchmarks:
        assert (ROOT / benchmark).is_file(), f"{row.id} names {benchmark}, which is not there"


def test_what_was_promised_is_held() -> None:
    fallen = {row.id: row.state for row in _rows() if row.id in HELD_NOW and row.state != "held"}
    assert not fallen


# --- commands named in the pages -----------------------------------------------------------


def _pages() -> list[Path]:
    return sorted(path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if path.name != "CHANGELOG.md")


def _code_of(page: Path) -> str:
    """Fenced blocks and inline code of a page."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```(?:sh|bash|console|shell)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*fenced, *inline])


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def _commands() -> set[str]:
    from typer.main import get_command

    from napari_cellenhance.cli import app

    return set(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.name)
def test_commands_of_a_page_exist(page: Path) -> None:
    code = _code_of(page)
    assert set(re.findall(r"^\s*\$?\s*make ([a-z]+)", code, re.MULTILINE)) <= _targets()
    # Only a command line begins with the word; {a,b} and <name> are left to the reader.
    assert set(re.findall(r"^\s*\$?\s*(?:\.venv/bin/)?cellenhance ([a-z]+)", code, re.MULTILINE)) <= _commands()


def test_the_readme_names_the_two_commands() -> None:
    code = _code_of(ROOT / "README.md")
    assert {"demo", "test"} <= set(re.findall(r"make ([a-z]+)", code))


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.name)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    broken = [target for target in targets if target and not (page.parent / target).exists()]
    assert not broken, f"{page.name} links to {broken}"
