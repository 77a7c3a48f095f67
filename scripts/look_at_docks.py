"""Open every dock in both themes, look for what is cut off or out of reach of the keyboard, and save pictures.

Two sheets (``docks-dark.png``, ``docks-light.png``) show each dock as it opens; with ``--all`` every tab is
saved as a picture of its own, too. What is wrong is printed and ends with status 1. Needs a display:

    bash scripts/with_display.sh .venv/bin/python scripts/look_at_docks.py --out out/docks
    QT_SCALE_FACTOR=1.25 bash scripts/with_display.sh .venv/bin/python scripts/look_at_docks.py --out out/docks-125
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QScrollArea,
    QScrollBar,
    QSizePolicy,
    QTabBar,
    QTabWidget,
    QWidget,
)

from napari_cellenhance.zoo.folders import MODELS_VARIABLE

PLUGIN = "napari-cellenhance"
DOCKS = (
    "Enhance cells", "Denoise", "Restore like these", "Crop library", "Keep only…", "Train a filter (NU-Net)",
    "Teach it your cells", "Batch", "Measure", "Compare", "Models",
)  # fmt: skip
THEMES = ("dark", "light")
COLUMNS, GAP = 6, 12


def let_live(seconds: float) -> None:
    """Process events for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def cut_off(panel: QWidget) -> list[str]:
    """What cannot be read as a whole, of all that is shown."""
    found = []
    for widget in panel.findChildren(QWidget):
        if not widget.isVisible() or widget.size().isEmpty():
            continue
        if isinstance(widget, QScrollArea) and widget.widget() is not None:
            needed, has = widget.widget().minimumSizeHint().width(), widget.viewport().width()
            if needed > has:
                found.append(f"what scrolls up and down needs {needed} px of width and has {has}")
        if isinstance(widget, QTabBar) and widget.count():
            letters = [widget.fontMetrics().horizontalAdvance(widget.tabText(i)) for i in range(widget.count())]
            needed = widget.tabRect(widget.count() - 1).right() + 1
            is_elided = any(widget.tabRect(i).width() < n for i, n in enumerate(letters))
            if needed > widget.width() or is_elided:
                found.append(f"tabs need {max(needed, sum(letters))} px and have {widget.width()}")
        if isinstance(widget, QAbstractButton) and widget.text() and widget.sizeHint().width() > widget.width():
            found.append(f"button “{widget.text()}” {widget.sizeHint().width()} > {widget.width()} px")
        if isinstance(widget, QLabel) and widget.text() and not widget.wordWrap():
            is_elided = widget.sizePolicy().horizontalPolicy() == QSizePolicy.Policy.Ignored
            if widget.sizeHint().width() > widget.width() and not is_elided:
                found.append(f"label “{widget.text()}” {widget.sizeHint().width()} > {widget.width()} px")
        if isinstance(widget, QLabel) and widget.wordWrap() and widget.text():
            needed = widget.heightForWidth(widget.width())
            if needed > widget.height() + 2:
                found.append(f"label “{widget.text()[:50]}…” is {needed} px high and has {widget.height()}")
    return found


def out_of_reach(panel: QWidget) -> list[str]:
    """What can be used with the mouse, but is not on the way of the Tab key."""
    kinds = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit)
    chain, widget = {panel}, panel.nextInFocusChain()
    while widget is not None and widget not in chain:
        chain.add(widget)
        widget = widget.nextInFocusChain()
    found = []
    for widget in panel.findChildren(QWidget):
        if not isinstance(widget, kinds) or isinstance(widget, QScrollBar) or not widget.isVisible():
            continue
        if isinstance(widget.parent(), QTabBar | QAbstractSpinBox | QComboBox | QLineEdit) or not widget.isEnabled():
            continue
        if not widget.focusPolicy() & Qt.FocusPolicy.TabFocus or widget not in chain:
            name = widget.accessibleName() or getattr(widget, "text", str)() or widget.objectName()
            found.append(f"{type(widget).__name__} “{name}” is not reached by Tab")
        if not (widget.toolTip() or isinstance(widget, QLineEdit)):
            found.append(f"{type(widget).__name__} “{widget.accessibleName() or widget.objectName()}” has no tooltip")
    return found


def picture(widget: QWidget) -> Image.Image:
    """The widget as it is on the screen."""
    image = widget.grab().toImage().convertToFormat(widget.grab().toImage().Format.Format_RGBA8888)
    bits = image.constBits()
    if hasattr(bits, "setsize"):
        bits.setsize(image.sizeInBytes())
    pixels = np.frombuffer(bits, np.uint8).reshape(image.height(), image.bytesPerLine() // 4, 4)
    return Image.fromarray(pixels[:, : image.width(), :3].copy())


def sheet(pictures: list[Image.Image], ground: tuple[int, int, int]) -> Image.Image:
    """Pictures in rows."""
    width, height = max(p.width for p in pictures) + GAP, max(p.height for p in pictures) + GAP
    rows = -(-len(pictures) // COLUMNS)
    whole = Image.new("RGB", (COLUMNS * width, rows * height), ground)
    for i, one in enumerate(pictures):
        whole.paste(one, ((i % COLUMNS) * width, (i // COLUMNS) * height))
    return whole


def look(viewer: Any, theme: str, out: Path, wants_all: bool) -> list[str]:
    """Open the docks one by one; what is wrong with them."""
    from napari.settings import get_settings

    viewer.theme = get_settings().appearance.theme = theme
    found, pictures = [], []
    for name in DOCKS:
        dock, panel = viewer.window.add_plugin_dock_widget(PLUGIN, name)
        let_live(0.8)
        pictures.append(picture(dock))
        tabs = panel.findChildren(QTabWidget)
        for page in range(tabs[0].count() if tabs else 1):
            if tabs:
                tabs[0].setCurrentIndex(page)
                let_live(0.2)
            place = f"{theme} · {name}" + (f" · {tabs[0].tabText(page)}" if tabs else "")
            found += [f"{place}: {what}" for what in cut_off(panel) + out_of_reach(panel)]
            if wants_all:
                picture(dock).save(out / f"{theme}-{name.split()[0].strip('…').lower()}-{page}.png")
        window = dock.window()
        if window.height() > window.property("asked_height"):
            found.append(f"{theme} · {name}: the window had to grow to {window.height()} px")
            window.resize(window.property("asked_width"), window.property("asked_height"))
        viewer.window.remove_dock_widget(dock)
        let_live(0.2)
    ground = (0, 0, 0) if theme == "dark" else (255, 255, 255)
    sheet(pictures, ground).save(out / f"docks-{theme}.png", optimize=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--size", default="1280x800", help="of napari's window")
    parser.add_argument("--font", type=int, default=0, help="napari's font size; 0: as it is")
    parser.add_argument("--all", action="store_true", help="save every tab")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as models:
        os.environ.setdefault(MODELS_VARIABLE, models)
        import napari
        from napari.settings import get_settings

        if arguments.font:
            get_settings().appearance.font_size = arguments.font
        viewer = napari.Viewer(title="napari", show=True)
        window = viewer.window._qt_window
        width, height = (int(v) for v in arguments.size.split("x"))
        window.setProperty("asked_width", width)
        window.setProperty("asked_height", height)
        window.resize(width, height)
        viewer.open_sample(PLUGIN, "nuclei")
        found = [what for theme in THEMES for what in look(viewer, theme, arguments.out, arguments.all)]
        viewer.close()
    print("\n".join(found) or "Nothing is cut off, everything is reached.")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
