"""A file is there as a whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_cellenhance.core.errors import TargetExistsError, WriteError
from napari_cellenhance.io import safe_write
from napari_cellenhance.io.safe_write import atomic_path, safe_name


def test_appears_only_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".csv"
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(28, "full")])
def test_any_failure_keeps_the_old_file(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "out.csv"
    target.write_text("old")
    expected = WriteError if isinstance(error, OSError) else type(error)

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(expected):
        write_half()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_a_failing_rename_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    target = tmp_path / "out.csv"
    target.write_text("old")
    monkeypatch.setattr(safe_write.os, "replace", refuse)
    with pytest.raises(WriteError, match="no permission to write there"), atomic_path(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WriteError), atomic_path(tmp_path / "out.csv"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_refuses_an_existing_file_before_any_work(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("old")
    worked: list[str] = []
    with pytest.raises(TargetExistsError, match="exists already"), atomic_path(target, overwrite=False):
        worked.append("yes")
    assert worked == []


def test_refuses_a_file_that_appeared_meanwhile(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"

    def write_while_someone_else_does() -> None:
        with atomic_path(target, overwrite=False) as temporary:
            temporary.write_text("mine")
            target.write_text("theirs")

    with pytest.raises(FileExistsError):
        write_while_someone_else_does()
    assert target.read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    with atomic_path(tmp_path / "link.csv") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "new"


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    with atomic_path(tmp_path / "out.csv") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "out.csv").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_killed_in_the_middle_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("old")
    code = (
        "import sys, time\n"
        "from napari_cellenhance.io.safe_write import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"writing"
        process.kill()
    assert process.returncode in (-getattr(signal, "SIGKILL", 9), 1)
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cells 3/4: GFP?", "cells 3_4_ GFP_"),
        ('a\\b*c"d<e>f|g', "a_b_c_d_e_f_g"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..", "image"),
        ("", "image"),
        ("   ", "image"),
        (".hidden", "hidden"),
        ("ends in dots...", "ends in dots"),
        ("line\nbreak\x00", "line_break_"),
        ("CON", "_CON"),
        ("nul.tif", "_nul.tif"),
        ("console", "console"),
        ("细胞 µm – François", "细胞 µm – François"),
        ("cells [1]", "cells [1]"),
        ("\ud800lone", "_lone"),
    ],
)
def test_safe_names(name: str, expected: str, tmp_path: Path) -> None:
    assert safe_name(name) == expected
    (tmp_path / f"{safe_name(name)}_enhanced.ome.tif").write_text("x")
    assert os.listdir(tmp_path) == [f"{safe_name(name)}_enhanced.ome.tif"]


@pytest.mark.parametrize("letter", ["x", "µ", "细", "🔬"])
def test_long_names_fit_every_file_system(letter: str, tmp_path: Path) -> None:
    name = safe_name(letter * 500)
    assert 150 < len(name.encode()) <= 160
    assert set(name) == {letter}
    (tmp_path / f"{name}_enhanced_labels.ome.tif").write_text("x")
