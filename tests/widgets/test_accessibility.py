"""Docks can be read with large letters, and used from the keyboard."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from napari.components import ViewerModel
from qtpy.QtGui import QFont
from qtpy.QtWidgets import QLabel, QPushButton, QTabWidget, QVBoxLayout, QWidget

from napari_cellenhance import _sample_data
from napari_cellenhance.widgets._forms import scrolled

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def looks() -> ModuleType:
    """The script that looks at all docks."""
    path = ROOT / "scripts" / "look_at_docks.py"
    spec = importlib.util.spec_from_file_location("look_at_docks", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def panel_classes() -> list[tuple[str, str]]:
    """Module and class of every dock of the manifest."""
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(ROOT / "src" / "napari_cellenhance" / "napari.yaml")
    commands = {one.id: one.python_name for one in manifest.contributions.commands}
    names = [str(commands[widget.command]) for widget in manifest.contributions.widgets]
    return [(name.partition(":")[0], name.partition(":")[2]) for name in names]


@pytest.mark.parametrize("points", [9, 16])
@pytest.mark.parametrize(("module", "name"), panel_classes())
def test_nothing_is_cut_off_and_all_is_reached_by_tab(
    looks: ModuleType, module: str, name: str, points: int, qtbot: Any
) -> None:
    viewer = ViewerModel()
    ((pixels, kwargs, _),) = _sample_data.nuclei()
    viewer.add_image(pixels, **kwargs)
    made = getattr(importlib.import_module(module), name)
    panel = made(viewer) if isinstance(made, type) else made
    dock = QWidget()  # as wide as it likes, and the panel no wider than it asks for
    qtbot.addWidget(dock)
    dock.resize(1200, 800)
    panel.setParent(dock)
    font = QFont(panel.font())
    font.setPointSize(points)
    panel.setFont(font)
    for widget in panel.findChildren(QWidget):
        widget.setFont(font)
    dock.show()
    panel.show()
    qtbot.wait(50)
    panel.resize(panel.minimumSizeHint().width(), 800)
    tabs = panel.findChildren(QTabWidget)
    for page in range(tabs[0].count() if tabs else 1):
        if tabs:
            tabs[0].setCurrentIndex(page)
        qtbot.wait(50)
        panel.resize(panel.minimumSizeHint().width(), 800)
        qtbot.wait(20)
        assert looks.cut_off(panel) + looks.out_of_reach(panel) == []
    panel.close()


def test_the_look_finds_what_is_cut_off_or_out_of_reach(looks: ModuleType, qtbot: Any) -> None:
    panel = QWidget()
    qtbot.addWidget(panel)
    button, label = QPushButton("A button with a long name", panel), QLabel("A sentence that does not wrap", panel)
    button.setGeometry(0, 0, 40, 20)
    label.setGeometry(0, 30, 40, 20)
    button.setFocusPolicy(looks.Qt.FocusPolicy.NoFocus)
    panel.show()
    assert len(looks.cut_off(panel)) == 2
    assert len(looks.out_of_reach(panel)) == 2  # no tooltip, and no Tab


def test_a_page_is_as_wide_and_as_high_as_its_sentences_need(qtbot: Any) -> None:
    content = QWidget()
    column = QVBoxLayout(content)
    button, sentence = QPushButton("wide " * 20), QLabel("a word and another " * 30)
    sentence.setWordWrap(True)
    column.addWidget(button)
    column.addWidget(sentence)
    page = scrolled(content)
    qtbot.addWidget(page)
    page.show()
    assert page.minimumSizeHint().width() >= button.sizeHint().width()
    page.resize(page.minimumSizeHint().width(), 60)
    qtbot.waitUntil(lambda: sentence.height() >= sentence.heightForWidth(sentence.width()))
    button.setText("short")
    sentence.setText("a word and another " * 60)
    page.resize(140, 60)  # narrower than Qt takes a sentence to be
    qtbot.waitUntil(lambda: sentence.width() < 140 and sentence.height() >= sentence.heightForWidth(sentence.width()))
    dock = QWidget()
    qtbot.addWidget(dock)
    QVBoxLayout(dock).addWidget(page)
    dock.show()
    before = dock.minimumSizeHint().width()
    button.setText("wider " * 40)
    qtbot.waitUntil(lambda: dock.minimumSizeHint().width() >= button.sizeHint().width() > before)
