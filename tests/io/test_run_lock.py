"""One run at a time for one result; who was killed holds nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from napari_cellenhance.core.errors import BusyError, WriteError
from napari_cellenhance.io.run_lock import only_run

HOLDING = """
import sys, time
from napari_cellenhance.io.run_lock import only_run
with only_run(sys.argv[1], "result"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_and_the_lock_goes(tmp_path: Path) -> None:
    lock = tmp_path / "out.lock"
    with only_run(lock, tmp_path / "out"):
        told = r"out is being written by another run \(process \d+ on .*since 20"
        with pytest.raises(BusyError, match=told), only_run(lock, tmp_path / "out"):
            pass
        assert lock.exists()
    assert not lock.exists()
    with only_run(lock, tmp_path / "out"):
        pass


def test_the_lock_of_a_process_that_was_killed_is_none(tmp_path: Path) -> None:
    lock = tmp_path / "out.lock"
    with subprocess.Popen([sys.executable, "-c", HOLDING, lock], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {other.pid} "), only_run(lock, "result"):
            pass
        other.send_signal(signal.SIGKILL)
    assert lock.exists()
    with only_run(lock, "result"):
        pass
    assert not lock.exists()


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="choose another folder"), only_run(tmp_path / "no" / "out.lock", "out"):
        pass
