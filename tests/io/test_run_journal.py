"""A journal survives whatever ends the program."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.io.run_journal import RunJournal


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    with RunJournal.begin(tmp_path / "j", {"run": (1, 2)}) as journal:
        journal.add({"done": (0, 1)})
    with RunJournal.resume(tmp_path / "j") as journal:
        assert (journal.header, journal.entries) == ({"run": [1, 2]}, [{"done": [0, 1]}])
        journal.add({"done": [2]})
    with RunJournal.resume(tmp_path / "j") as journal:
        assert journal.entries[-1] == {"done": [2]}


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    with RunJournal.begin(tmp_path / "j", {}) as journal:
        journal.add({"done": 1})
    with open(tmp_path / "j", "ab") as stream:
        stream.write(b'{"done":')
    with RunJournal.resume(tmp_path / "j") as journal:
        assert journal.entries == [{"done": 1}]
        journal.add({"done": 2})
    with RunJournal.resume(tmp_path / "j") as journal:
        assert journal.entries == [{"done": 1}, {"done": 2}]


def test_a_full_disk_takes_the_line_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with RunJournal.begin(tmp_path / "j", {}) as journal:
        before = (tmp_path / "j").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space"):
                journal.add({"done": 1})
        assert (tmp_path / "j").read_bytes() == before
        assert journal.entries == []
        journal.add({"done": 2})
    with RunJournal.resume(tmp_path / "j") as journal:
        assert journal.entries == [{"done": 2}]


def test_a_damaged_journal_is_said(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"nonsense\n")
    with pytest.raises(ImageError, match="delete it"):
        RunJournal.resume(tmp_path / "j")
    (tmp_path / "j").write_bytes(b"")
    with pytest.raises(ImageError, match="delete it"):
        RunJournal.resume(tmp_path / "j")
