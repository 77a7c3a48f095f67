"""A window that is closed while torch is being imported behind it: the program ends as if nothing were."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
import napari
from qtpy.QtCore import QTimer

viewer = napari.Viewer()
viewer.open_sample("napari-cellenhance", "nuclei")
dock, panel = viewer.window.add_plugin_dock_widget("napari-cellenhance", "Enhance cells")
seen = []

def look():
    if "torch" not in sys.modules:
        return
    timer.stop()
    seen.append(any(thread.name == "cellenhance-preview" for thread in threading.enumerate()))
    if sys.argv[1] == "dock":
        viewer.window.remove_dock_widget(dock)
    QTimer.singleShot(0, viewer.close)

timer = QTimer()
timer.timeout.connect(look)
timer.start(5)
napari.run()
print("closed", seen)
"""


@pytest.mark.parametrize("what", ["viewer", "dock"])
def test_closing_while_torch_is_imported(what: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, timeout=120, env=os.environ, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "closed [True]"
    assert "Traceback" not in ended.stderr
