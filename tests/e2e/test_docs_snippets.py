"""The commands in the how-to for the terminal work as they are written, in their order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.main import get_command
from typer.testing import CliRunner

from napari_cellenhance.cli import app
from napari_cellenhance.io.images import write

PAGE = Path(__file__).parents[2] / "docs" / "usage" / "terminal.md"


def commands() -> list[str]:
    """Commands that the page's earlier ones leave files for; those that need the reader's own are in console blocks."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_every_command_of_the_page_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: NDArray[np.uint16], nunet_id: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write("cells.tif", picture, "YX", dtype="keep")
    Path("plate1").mkdir()
    write("plate1/a.tif", picture, "YX", dtype="keep")
    write("plate1/b.png", picture.T, "YX", dtype="keep")
    lines = commands()
    assert len(lines) >= 9
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "cellenhance"
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{line}\n{result.output}"
    promised = (
        "demo/before_after.png", "demo/nuclei_enhanced.ome.tif", "cells_enhanced.ome.tif", "cells_8bit.png",
        "cells_labels.ome.tif", "cells_points.csv", "plate1_enhanced/a.ome.tif", "plate1_enhanced/b.ome.tif",
        "plate1.json", "plate1_tif/a.ome.tif",
    )  # fmt: skip
    assert [name for name in promised if not Path(name).is_file()] == []


def _pages_of_help(command: Any, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command and group of commands, as the words that lead to it."""
    below = getattr(command, "commands", {})
    return [words, *(page for name, one in below.items() for page in _pages_of_help(one, (*words, name)))]


def test_every_option_of_the_page_exists() -> None:
    named = set(re.findall(r"--[a-z][a-z-]*", PAGE.read_text(encoding="utf-8")))
    runner = CliRunner()
    pages = [runner.invoke(app, [*words, "--help"]) for words in _pages_of_help(get_command(app))]
    assert all(page.exit_code == 0 for page in pages)
    known = set(re.findall(r"--[a-z][a-z-]*", "".join(page.stdout for page in pages)))
    assert named <= known, named - known
