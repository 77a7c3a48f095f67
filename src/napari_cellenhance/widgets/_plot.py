"""A small live plot of curves for the docks: line, steps or points, with legend, ticks, marks and PNG export."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from qtpy.QtCore import QEvent, QRectF, QSize
from qtpy.QtGui import QColor, QFontMetricsF, QImage, QMouseEvent, QPainter, QPaintEvent, QPalette
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_cellenhance.io.safe_write import atomic_path
from napari_cellenhance.widgets._plot_paint import Look, PlotContent, frame_of, paint, scales_of
from napari_cellenhance.widgets._plot_scale import Curve, Mark, tick_texts

__all__ = ["Curve", "LinePlot", "Mark", "described", "readout"]

_MARGIN = 4.0
_HEIGHT_IN_LINES, _LEAST_IN_LINES = 18, 13


def described(content: PlotContent) -> str:
    """Say what a plot shows, for people who listen to it."""
    if scales_of(content) is None:
        return content.empty_text or "Nothing to show yet."
    parts = [f"{content.y_label or 'y'} over {content.x_label or 'x'}"]
    for curve in content.curves:
        if not curve.name:
            continue
        finite = np.asarray(curve.y, np.float64)
        finite = finite[np.isfinite(finite)]
        if finite.size:
            parts.append(f"{curve.name}: {len(curve.y)} values from {finite.min():.4g} to {finite.max():.4g}")
        else:
            parts.append(f"{curve.name}: no values")
    parts += [f"mark at {mark.x:.4g} {mark.text}".rstrip() for mark in content.marks]
    return "; ".join(parts) + "."


def readout(content: PlotContent, x: float) -> str:
    """Values of all curves at the point nearest to ``x``, one line each."""
    lines = [f"{content.x_label or 'x'}: {tick_texts([float(f'{x:.4g}')])[0]}"]
    for curve in content.curves:
        if not (curve.name and len(curve.y)):
            continue
        places = np.asarray(curve.x, np.float64)
        if curve.style == "steps":
            index = int(np.clip(np.searchsorted(places, x, side="right") - 1, 0, len(curve.y) - 1))
        else:
            index = int(np.argmin(np.abs(np.where(np.isfinite(places), places, np.inf) - x)))
        lines.append(f"{curve.name}: {float(curve.y[index]):.4g}")
    return "\n".join(lines)


class LinePlot(QWidget):
    """Shows curves; follows the theme and the size of its dock. Holds no state but what it shows.

    Parameters
    ----------
    parent : QWidget, optional
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._content = PlotContent()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMouseTracking(True)
        self.setAccessibleName("Plot")
        self._show(self._content)

    # --- what it shows ------------------------------------------------------------------

    @property
    def content(self) -> PlotContent:
        """All that is shown."""
        return self._content

    def set_curves(self, curves: Sequence[Curve]) -> None:
        """Show these curves in place of the earlier ones; the axes fit themselves."""
        self._show(replace(self._content, curves=tuple(curves)))

    def set_marks(self, marks: Sequence[Mark]) -> None:
        """Show vertical lines with a text; marks beyond the curves are not drawn."""
        self._show(replace(self._content, marks=tuple(marks)))

    def set_labels(self, x: str, y: str) -> None:
        """Name the axes, with their units: "grey value", "loss"."""
        self._show(replace(self._content, x_label=x, y_label=y))

    def set_log_y(self, is_log: bool) -> None:
        """Show powers of ten along y; values of 0 or less leave a gap."""
        self._show(replace(self._content, is_log_y=bool(is_log)))

    def set_empty_text(self, text: str) -> None:
        """Say what to do while there is no curve."""
        self._show(replace(self._content, empty_text=text))

    def _show(self, content: PlotContent) -> None:
        self._content = content
        self.setAccessibleDescription(described(content))
        self.update()

    # --- export -------------------------------------------------------------------------

    def to_png(self, path: str | os.PathLike[str], *, size_px: tuple[int, int] = (1600, 1000)) -> Path:
        """Write the plot as a PNG, dark on white as for print, at twice the resolution of the screen.

        Parameters
        ----------
        path : path
            Its folder must exist; an existing file is replaced.
        size_px : (int, int)
            Width and height of the picture.

        Raises
        ------
        WriteError
            It cannot be written; a file that was there is unchanged.
        """
        image = QImage(QSize(*size_px), QImage.Format.Format_RGB32)
        image.setDevicePixelRatio(2.0)
        image.fill(QColor("white"))
        painter = QPainter(image)
        painter.setFont(self.font())
        area = QRectF(0, 0, size_px[0] / 2, size_px[1] / 2).adjusted(_MARGIN, _MARGIN, -_MARGIN, -_MARGIN)
        paint(painter, area, self._content, Look(QColor("#222222"), QColor("white")))
        painter.end()
        target = Path(path)
        with atomic_path(target) as temporary:
            if not image.save(str(temporary), "PNG"):
                raise OSError("the picture could not be encoded or stored")
        return target

    # --- Qt -----------------------------------------------------------------------------

    def sizeHint(self) -> QSize:
        """Eighteen lines of text high."""
        line = self.fontMetrics().height()
        return QSize(20 * line, _HEIGHT_IN_LINES * line)

    def minimumSizeHint(self) -> QSize:
        """Thirteen lines of text high: below a legend of two rows a curve can be read."""
        line = self.fontMetrics().height()
        return QSize(12 * line, _LEAST_IN_LINES * line)

    def _area(self) -> QRectF:
        return QRectF(self.rect()).adjusted(_MARGIN, _MARGIN, -_MARGIN, -_MARGIN)

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the plot in the colours of the theme."""
        colours = self.palette()
        look = Look(colours.color(QPalette.ColorRole.WindowText), colours.color(QPalette.ColorRole.Window))
        painter = QPainter(self)
        painter.fillRect(self.rect(), look.ground)
        paint(painter, self._area(), self._content, look)
        painter.end()

    def changeEvent(self, event: QEvent | None) -> None:
        """Draw again when the theme changes."""
        super().changeEvent(event)
        self.update()

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:
        """Show the values under the mouse."""
        scales = scales_of(self._content)
        if event is None or scales is None:
            return
        frame = frame_of(self._content, self._area(), QFontMetricsF(self.font(), self))
        place = event.position()
        if frame.contains(place):
            share = (place.x() - frame.left()) / frame.width()
            x = scales[0].low + share * (scales[0].high - scales[0].low)
            QToolTip.showText(event.globalPosition().toPoint(), readout(self._content, x), self)
        else:
            QToolTip.hideText()
