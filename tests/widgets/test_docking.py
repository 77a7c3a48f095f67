"""Docks of the plugin share one place."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_cellenhance.widgets._docking import PANELS, TabWhenShown, share_place


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


def _tabbed(qtbot: Any) -> tuple[QMainWindow, list[QDockWidget]]:
    """Three docks of ours behind each other, the last one in front, looked after as in napari."""
    window = QMainWindow()
    qtbot.addWidget(window)
    docks = []
    for name in PANELS[:3]:
        panel = QWidget()
        panel.setObjectName(name)
        TabWhenShown(panel)
        dock = QDockWidget(name, window)
        dock.setWidget(panel)
        window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
        window.show()
        others = list(docks)
        qtbot.waitUntil(
            lambda dock=dock, others=others: len(window.tabifiedDockWidgets(dock)) == len(others), timeout=5000
        )
        qtbot.waitUntil(lambda dock=dock: _is_in_front(dock), timeout=5000)
        qtbot.wait(150)
        docks.append(dock)
    return window, docks


def _is_in_front(dock: QDockWidget) -> bool:
    return dock.isVisible() and not dock.visibleRegion().isEmpty()


def test_a_dock_that_was_closed_comes_back_to_the_front(qtbot: Any) -> None:
    window, (_, second, third) = _tabbed(qtbot)
    second.raise_()
    qtbot.waitUntil(lambda: _is_in_front(second), timeout=5000)
    second.setVisible(False)
    qtbot.waitUntil(lambda: _is_in_front(third) or _is_in_front(window.findChildren(QDockWidget)[0]), timeout=5000)
    second.setVisible(True)
    qtbot.waitUntil(lambda: _is_in_front(second), timeout=5000)


def test_a_dock_behind_others_that_napari_s_menu_switches_off_comes_to_the_front(qtbot: Any) -> None:
    _, (first, second, third) = _tabbed(qtbot)
    assert _is_in_front(third) and first.isVisible(), "behind counts as visible: so the menu switches it off"
    first.setVisible(not first.isVisible())
    qtbot.waitUntil(lambda: _is_in_front(first), timeout=5000)
    first.setVisible(not first.isVisible())
    qtbot.wait(100)
    assert first.isHidden() and not second.isHidden(), "in front it is switched off as ever"


def test_the_window_that_goes_and_comes_shows_the_same_dock(qtbot: Any) -> None:
    window, docks = _tabbed(qtbot)
    docks[1].raise_()
    qtbot.waitUntil(lambda: _is_in_front(docks[1]), timeout=5000)
    window.hide()
    qtbot.wait(50)
    window.show()
    qtbot.wait(100)
    assert [_is_in_front(dock) for dock in docks] == [False, True, False]


def test_a_dock_that_is_taken_away_while_behind_does_not_come_back(qtbot: Any) -> None:
    window, (first, _, third) = _tabbed(qtbot)
    panel = first.widget()
    panel.setParent(None)  # what napari does
    qtbot.addWidget(panel)
    window.removeDockWidget(first)
    qtbot.wait(100)
    assert not first.isVisible() and _is_in_front(third)
