"""Draws a plot with a QPainter: legend, axes with ticks, curves, marks. The same on the screen and in a PNG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QFontMetricsF, QPainter, QPen, QPolygonF

from napari_cellenhance.widgets._plot_scale import Curve, Mark, Scale, outline, scale_of, thinned, tick_texts, ticks

__all__ = ["PALETTE", "Look", "PlotContent", "colour_of", "frame_of", "legend_rows", "paint", "scales_of"]

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442")
"""Okabe & Ito 2008: distinct also for colour-blind people, on dark and on light ground."""
_DASHES = (Qt.PenStyle.SolidLine, Qt.PenStyle.DashLine, Qt.PenStyle.DotLine, Qt.PenStyle.DashDotLine)
_GAP = 4.0
_SAMPLE = 22.0  # length of the line in the legend
_TICK = 4.0


@dataclass(frozen=True, slots=True)
class PlotContent:
    """All that a plot shows."""

    curves: tuple[Curve, ...] = ()
    marks: tuple[Mark, ...] = ()
    x_label: str = ""
    y_label: str = ""
    is_log_y: bool = False
    empty_text: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """Colours of text and ground."""

    text: QColor
    ground: QColor

    @property
    def faint(self) -> QColor:
        """Grid lines and frame: a third of the way from the ground to the text."""
        mixed = QColor(self.text)
        mixed.setAlphaF(0.3)
        return mixed


def colour_of(index: int, curve: Curve) -> QColor:
    """Colour of the ``index``-th curve; an unknown name falls back to the palette."""
    own = QColor(curve.colour) if curve.colour else QColor()
    return own if own.isValid() else QColor(PALETTE[index % len(PALETTE)])


def scales_of(content: PlotContent) -> tuple[Scale, Scale] | None:
    """Scales of x and y; None where there is nothing to show."""
    lines = [outline(curve) for curve in content.curves]
    # A value that is not drawn (0 on a log scale) must not stretch the x axis away from what is.
    x = scale_of(line[0] for line in lines)
    y = scale_of((line[1] for line in lines), is_log=content.is_log_y, has_zero=True)
    return None if x is None or y is None else (x, y)


def legend_rows(content: PlotContent, width: float, metrics: QFontMetricsF) -> list[list[tuple[int, str]]]:
    """Names of the curves that have one, cut in the middle where too long, in rows that fit the width."""
    rows: list[list[tuple[int, str]]] = []
    free = 0.0
    for index, curve in enumerate(content.curves):
        if not curve.name:
            continue
        name = metrics.elidedText(curve.name, Qt.TextElideMode.ElideMiddle, max(40.0, width - _SAMPLE - 3 * _GAP))
        needed = _SAMPLE + 3 * _GAP + metrics.horizontalAdvance(name)
        if not rows or needed > free:
            rows.append([])
            free = width
        rows[-1].append((index, name))
        free -= needed
    return rows


def frame_of(content: PlotContent, area: QRectF, metrics: QFontMetricsF) -> QRectF:
    """Where the curves go: the area less legend, labels and tick texts."""
    line = metrics.height()
    top = area.top() + line * len(legend_rows(content, area.width(), metrics)) + _GAP + line / 2
    scales = scales_of(content)
    texts = tick_texts(ticks(scales[1], _n_ticks(area.height(), line))) if scales else []
    widest = max((metrics.horizontalAdvance(text) for text in texts), default=0.0)
    left = area.left() + widest + _TICK + 2 * _GAP + (line if content.y_label else 0)
    bottom = area.bottom() - line - _TICK - _GAP - (line if content.x_label else 0)
    right = area.right() - line
    return QRectF(left, top, max(1.0, right - left), max(1.0, bottom - top))


def paint(painter: QPainter, area: QRectF, content: PlotContent, look: Look) -> None:
    """Draw ``content`` into ``area``."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.fillRect(area, look.ground)
    metrics = QFontMetricsF(painter.font(), painter.device())
    scales = scales_of(content)
    if scales is None:
        painter.setPen(look.text)
        flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
        painter.drawText(area.adjusted(8, 8, -8, -8), flags, content.empty_text or "Nothing to show yet.")
        return
    frame = frame_of(content, area, metrics)
    _paint_legend(painter, area, content, look, metrics)
    _paint_axes(painter, area, frame, content, look, metrics, scales)
    painter.save()
    painter.setClipRect(frame.adjusted(-1, -1, 1, 1))
    for index, curve in enumerate(content.curves):
        _paint_curve(painter, frame, scales, curve, _pen(index, curve))
    painter.restore()
    for line, mark in enumerate(content.marks):
        _paint_mark(painter, frame, scales[0], mark, line, look, metrics)


def _pen(index: int, curve: Curve) -> QPen:
    pen = QPen(colour_of(index, curve), 1.8)
    if curve.style in ("line", "steps"):
        pen.setStyle(_DASHES[index % len(_DASHES)])
    return pen


def _n_ticks(length: float, least: float) -> int:
    return int(min(6, max(2, length / (2.5 * least))))


def _paint_legend(painter: QPainter, area: QRectF, content: PlotContent, look: Look, metrics: QFontMetricsF) -> None:
    y = area.top()
    for row in legend_rows(content, area.width(), metrics):
        x = area.left() + _GAP
        middle = y + metrics.height() / 2
        for index, name in row:
            curve = content.curves[index]
            painter.setPen(_pen(index, curve))
            if curve.style == "points":
                painter.setBrush(colour_of(index, curve))
                painter.drawEllipse(QPointF(x + _SAMPLE / 2, middle), 2.5, 2.5)
                painter.setBrush(Qt.BrushStyle.NoBrush)
            else:
                painter.drawLine(QPointF(x, middle), QPointF(x + _SAMPLE, middle))
            painter.setPen(look.text)
            painter.drawText(QPointF(x + _SAMPLE + _GAP, y + metrics.ascent()), name)
            x += _SAMPLE + 3 * _GAP + metrics.horizontalAdvance(name)
        y += metrics.height()


def _paint_axes(
    painter: QPainter,
    area: QRectF,
    frame: QRectF,
    content: PlotContent,
    look: Look,
    metrics: QFontMetricsF,
    scales: tuple[Scale, Scale],
) -> None:
    line = metrics.height()
    x_ticks = ticks(scales[0], _n_ticks(frame.width(), 1.6 * line))
    y_ticks = ticks(scales[1], _n_ticks(area.height(), line))
    painter.setPen(QPen(look.faint, 1.0))
    painter.drawRect(frame)
    free_from = area.left()
    for value, text in zip(x_ticks, tick_texts(x_ticks), strict=True):
        x = frame.left() + float(scales[0].share(value)) * frame.width()
        painter.setPen(QPen(look.faint, 1.0))
        painter.drawLine(QPointF(x, frame.bottom()), QPointF(x, frame.bottom() + _TICK))
        width = metrics.horizontalAdvance(text)
        start = min(x - width / 2, area.right() - width)
        if start >= free_from:
            painter.setPen(look.text)
            painter.drawText(QPointF(start, frame.bottom() + _TICK + metrics.ascent() + 1), text)
            free_from = start + width + _GAP
    for value, text in zip(y_ticks, tick_texts(y_ticks), strict=True):
        y = frame.bottom() - float(scales[1].share(value)) * frame.height()
        painter.setPen(QPen(look.faint, 1.0, Qt.PenStyle.DotLine))
        painter.drawLine(QPointF(frame.left() - _TICK, y), QPointF(frame.right(), y))
        painter.setPen(look.text)
        width = metrics.horizontalAdvance(text)
        painter.drawText(QPointF(frame.left() - _TICK - _GAP - width, y + metrics.ascent() / 2 - 1), text)
    if content.x_label:
        label = metrics.elidedText(content.x_label, Qt.TextElideMode.ElideRight, frame.width())
        box = QRectF(frame.left(), area.bottom() - line - _GAP / 2, frame.width(), line)
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, label)
    if content.y_label:
        label = metrics.elidedText(content.y_label, Qt.TextElideMode.ElideRight, frame.height() + line)
        painter.save()
        painter.translate(area.left() + line / 2 + 1, frame.center().y())
        painter.rotate(-90)
        box = QRectF(-frame.height() / 2 - line / 2, -line / 2, frame.height() + line, line)
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, label)
        painter.restore()


def _paint_curve(painter: QPainter, frame: QRectF, scales: tuple[Scale, Scale], curve: Curve, pen: QPen) -> None:
    x, y = thinned(*outline(curve), int(frame.width()))
    x_px = frame.left() + scales[0].share(x) * frame.width()
    y_px = frame.bottom() - scales[1].share(y) * frame.height()
    if scales[1].is_log and curve.style == "steps":
        y_px = np.where(np.isnan(y_px) & np.isfinite(y), frame.bottom() + 2, y_px)  # an empty bin: below the frame
    painter.setPen(pen)
    is_there = np.isfinite(x_px) & np.isfinite(y_px)
    if curve.style == "points":
        painter.setBrush(pen.color())
        for i in np.flatnonzero(is_there):
            painter.drawEllipse(QPointF(float(x_px[i]), float(y_px[i])), 2.0, 2.0)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        return
    # One line per run of finite points: a gap stays a gap.
    edges = np.flatnonzero(np.diff(is_there)) + 1
    for run in np.split(np.arange(len(x_px)), edges):
        if not run.size or not is_there[run[0]]:
            continue
        if run.size == 1:
            painter.drawPoint(QPointF(float(x_px[run[0]]), float(y_px[run[0]])))
        else:
            painter.drawPolyline(QPolygonF([QPointF(float(x_px[i]), float(y_px[i])) for i in run]))


def _paint_mark(
    painter: QPainter, frame: QRectF, scale: Scale, mark: Mark, line: int, look: Look, metrics: QFontMetricsF
) -> None:
    """A vertical line; texts of several marks go below each other, for the lines may be close."""
    share = float(scale.share(mark.x))
    if not 0 <= share <= 1:
        return
    x = frame.left() + share * frame.width()
    own = QColor(mark.colour) if mark.colour else QColor()
    painter.setPen(QPen(own if own.isValid() else look.text, 1.2, Qt.PenStyle.DashLine))
    painter.drawLine(QPointF(x, frame.top()), QPointF(x, frame.bottom()))
    if mark.text:
        width = metrics.horizontalAdvance(mark.text)
        start = x + _GAP if x + _GAP + width <= frame.right() else x - _GAP - width
        top = frame.top() + (line * metrics.height()) % max(1.0, frame.height() - metrics.height())
        painter.fillRect(QRectF(start - 1, top, width + 2, metrics.height()), look.ground)
        painter.drawText(QPointF(start, top + metrics.ascent()), mark.text)
