"""Docks of the plugin share one place."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_cellenhance.widgets._docking import PANELS, share_place


def _docked(window: QMainWindow, name: str) -> tuple[QDockWidget, QWidget]:
    dock, panel = QDockWidget(name, window), QWidget()
    panel.setObjectName(name)
    dock.setWidget(panel)
    window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    dock.show()
    return dock, panel


def test_a_second_panel_becomes_a_tab_over_the_first_and_leaves_others_alone(qtbot: Any) -> None:
    window = QMainWindow()
    qtbot.addWidget(window)
    stranger, _ = _docked(window, "another plugin")
    first, first_panel = _docked(window, PANELS[0])
    window.show()
    share_place(first_panel)
    assert window.tabifiedDockWidgets(first) == []
    second, second_panel = _docked(window, PANELS[1])
    assert window.tabifiedDockWidgets(second) == []
    share_place(second_panel)
    assert window.tabifiedDockWidgets(second) == [first]
    assert window.tabifiedDockWidgets(stranger) == []


def test_a_floating_dock_and_a_panel_without_one_stay_where_they_are(qtbot: Any) -> None:
    window = QMainWindow()
    qtbot.addWidget(window)
    first, _ = _docked(window, PANELS[0])
    second, second_panel = _docked(window, PANELS[1])
    second.setFloating(True)
    window.show()
    share_place(second_panel)
    assert window.tabifiedDockWidgets(first) == []
    loose = QWidget()
    qtbot.addWidget(loose)
    share_place(loose)


def test_a_panel_that_is_opened_beside_another_one_becomes_a_tab(qtbot: Any, make_napari_viewer: Any) -> None:
    from napari_cellenhance.widgets.measure import MeasurePanel
    from napari_cellenhance.widgets.train import TrainPanel

    viewer = make_napari_viewer(show=True)
    first, second = (
        viewer.window.add_dock_widget(kind(viewer), name=kind.__name__) for kind in (MeasurePanel, TrainPanel)
    )
    window = first.parent()
    qtbot.waitUntil(lambda: window.tabifiedDockWidgets(first) == [second], timeout=5000)
