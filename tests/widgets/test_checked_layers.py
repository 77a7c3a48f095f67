"""The list of images to check: the first image that opens is the one that somebody means."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt

from napari_cellenhance.widgets.denoise import DenoisePanel
from napari_cellenhance.widgets.restore import RestorePanel


def checked(panel: DenoisePanel | RestorePanel) -> list[str]:
    """Names that are checked under “Images”."""
    items = [panel.images.list.item(row) for row in range(panel.images.list.count())]
    return [item.text() for item in items if item is not None and item.checkState() == Qt.CheckState.Checked]


@pytest.mark.parametrize("dock", [DenoisePanel, RestorePanel])
def test_an_image_that_opens_after_the_dock_is_checked(dock: type[DenoisePanel | RestorePanel], qtbot: QtBot) -> None:
    viewer = ViewerModel()
    panel = dock(viewer)
    qtbot.addWidget(panel)
    viewer.add_image(np.eye(32), name="first")
    assert checked(panel) == ["first"]
    viewer.add_image(np.eye(32), name="second")
    assert checked(panel) == ["first"], "only the first one of all is taken for granted"
    viewer.layers.clear()
    viewer.add_image(np.eye(32), name="next")
    assert checked(panel) == ["next"]
    panel.images.check(viewer.layers["next"], is_checked=False)
    viewer.add_image(np.eye(32), name="other")
    assert checked(panel) == [], "what somebody unchecked stays so"


def test_no_clean_image_is_taken_for_granted(qtbot: QtBot) -> None:
    """The image that is open is more likely the one to restore than one to learn from."""
    viewer = ViewerModel()
    panel = RestorePanel(viewer)
    qtbot.addWidget(panel)
    viewer.add_image(np.eye(32), name="poor")
    assert checked(panel) == ["poor"] and panel.settings.data.clean.forms() == []
