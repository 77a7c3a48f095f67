"""Figures for print and slides: images beside each other, with scale bar, grey values and how they were made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.io.safe_write import atomic_path

__all__ = ["SUFFIXES", "Background", "Panel", "bar_length", "check_suffix", "write_comparison"]

SUFFIXES = (".png", ".pdf", ".svg")
Background = Literal["white", "black"]
_PANEL_IN = 2.6
_DPI = 300
_BAR_SHARE = 0.25
_FINE_PT, _TITLE_PT, _NOTE_PT = 5.5, 8.0, 6.5
_LINE_IN = 0.115
_LETTERS_PER_IN = 25
_DIFFERENCE_COLOURS = "PiYG"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One image of the figure.

    Parameters
    ----------
    title : str
    plane : ndarray of shape (Y, X)
    limits : (float, float)
        Grey values of the first and the last colour; of a difference symmetric around 0.
    note : str
        Small print below the image.
    colors : ndarray of shape (N, 3 or 4) or None
        From dark to bright; None: grey, of a difference purple over white to green.
    is_difference : bool
    """

    title: str
    plane: NDArray[Any]
    limits: tuple[float, float]
    note: str = ""
    colors: NDArray[Any] | None = None
    is_difference: bool = False


def bar_length(width: float) -> float:
    """Length of a scale bar: 1, 2 or 5 times a power of ten, at most a quarter of the width.

    >>> bar_length(166.0), bar_length(7.9)
    (20.0, 1.0)
    """
    most = width * _BAR_SHARE
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step for step in (1.0, 2.0, 5.0) if step * power <= most) * power)


def write_comparison(
    path: str | os.PathLike[str],
    panels: Sequence[Panel],
    *,
    pixel_um: tuple[float, float] | None,
    small_print: Sequence[str] = (),
    background: Background = "white",
    overwrite: bool = True,
) -> Path:
    """Draw images of one field beside each other.

    Parameters
    ----------
    path : path
        Ends in .png, .pdf or .svg. In the latter two, images are stored with all their pixels, and text stays text.
    panels : sequence of Panel
        At least one; of planes of one shape.
    pixel_um : (float, float) or None
        Height and width of a pixel, for the scale bar; None: the bar is in pixels.
    small_print : sequence of str
        Lines under the images.
    background : "white" or "black"
    overwrite : bool

    Raises
    ------
    ParameterError
        Another suffix, or no panel.
    TargetExistsError, WriteError
        As for :func:`napari_cellenhance.io.safe_write.atomic_path`.
    """
    target = Path(path)
    check_suffix(target)
    if not panels:
        raise ParameterError("there is no image to draw; choose at least one")
    import matplotlib as mpl

    # Text that stays text can be edited in a drawing program.
    with mpl.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
        figure = _draw(panels, pixel_um, small_print, background)
        with atomic_path(target, overwrite=overwrite) as temporary:
            figure.savefig(
                temporary, format=target.suffix[1:].lower(), dpi=_DPI, facecolor=figure.get_facecolor(),
                metadata={"Creator": "napari-cellenhance"} if target.suffix.lower() != ".png" else None,
            )  # fmt: skip
    return target


def check_suffix(path: Path) -> None:
    """Refuse a name that does not say PNG, PDF or SVG.

    Raises
    ------
    ParameterError
    """
    if path.suffix.lower() not in SUFFIXES:
        either = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise ParameterError(f"the figure shall be written to {path.name!r}; expected a name ending in {either}")


def _draw(panels: Sequence[Panel], pixel_um: tuple[float, float] | None, lines: Sequence[str], ground: str) -> Any:
    # The object interface leaves the state of pyplot, which napari or a notebook may use, alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ink = "black" if ground == "white" else "white"
    height_px, width_px = panels[0].plane.shape
    dy, dx = pixel_um or (1.0, 1.0)
    ratio = min(3.0, max(0.25, height_px * dy / (width_px * dx)))
    gap, width = 0.08, len(panels) * (_PANEL_IN + 0.08) + 0.08
    wrapped = [part for line in lines for part in _wrapped(line, int(_LETTERS_PER_IN * width))]
    below, above = 0.3 + _LINE_IN * len(wrapped) + 0.05, 0.26
    height = above + _PANEL_IN * ratio + below
    figure = Figure(figsize=(width, height), facecolor=ground)
    FigureCanvasAgg(figure)
    for number, panel in enumerate(panels):
        left = gap + number * (_PANEL_IN + gap)
        axis = figure.add_axes((left / width, below / height, _PANEL_IN / width, _PANEL_IN * ratio / height))
        _fill(axis, panel, (dy, dx), ink)
        if number == 0:
            _add_bar(axis, panel.plane.shape[1], panel.plane.shape[0], dx, pixel_um is not None)
    for number, line in enumerate(wrapped):
        y = (below - 0.3 - _LINE_IN * number) / height
        figure.text(gap / width, y, line, fontsize=_FINE_PT, color=ink, va="top", ha="left")
    return figure


def _wrapped(line: str, n_letters: int) -> list[str]:
    import textwrap

    return textwrap.wrap(line, n_letters, subsequent_indent="   ") or [""]


def _fill(axis: Any, panel: Panel, steps: tuple[float, float], ink: str) -> None:
    from matplotlib.colors import ListedColormap

    if panel.colors is not None:
        colours: Any = ListedColormap(np.asarray(panel.colors, float))
    else:
        colours = _DIFFERENCE_COLOURS if panel.is_difference else "gray"
    low, high = panel.limits
    plane = np.asarray(panel.plane)
    axis.imshow(
        plane if plane.dtype.kind == "f" else plane.astype(np.float32), cmap=colours, vmin=low, vmax=high,
        interpolation="none", aspect=steps[0] / steps[1],
    )  # fmt: skip
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(panel.is_difference)  # a difference fades into white paper
        spine.set(color="0.6", linewidth=0.4)
    axis.set_title(_shortened(panel.title, 44), fontsize=_TITLE_PT, color=ink, pad=4)
    axis.text(
        0.5, -0.045 * panel.plane.shape[1] / max(1, panel.plane.shape[0]), panel.note, transform=axis.transAxes,
        fontsize=_NOTE_PT, color=ink, ha="center", va="center",
    )  # fmt: skip


def _shortened(text: str, n_letters: int) -> str:
    """Cut the middle out of a long name.

    >>> _shortened("abcdefghij", 7)
    'abc…hij'
    """
    half = (n_letters - 1) // 2
    return text if len(text) <= n_letters else f"{text[:half]}…{text[-half:]}"


def _add_bar(axis: Any, width_px: int, height_px: int, dx: float, is_um: bool) -> None:
    """A white bar with a dark rim, so that it stands out on any image, and its length."""
    from matplotlib.patheffects import withStroke

    length = bar_length(width_px * dx)
    right, bottom = 0.96 * width_px - 0.5, height_px - 0.06 * width_px - 0.5
    rim = [withStroke(linewidth=3.2, foreground="black")]
    axis.plot(
        (right - length / dx, right), (bottom, bottom), color="white", lw=2.2, solid_capstyle="butt", path_effects=rim
    )
    words = f"{length:g} {'µm' if is_um else 'px'}"
    place, look = (right - length / dx / 2, bottom - 0.02 * width_px), {"fontsize": 7, "ha": "center", "va": "bottom"}
    # The rim becomes an outline in PDF and SVG; above it the text itself stays text.
    axis.text(*place, words, color="black", path_effects=[withStroke(linewidth=1.6, foreground="black")], **look)
    axis.text(*place, words, color="white", **look)
    axis.set_xlim(-0.5, width_px - 0.5)
    axis.set_ylim(height_px - 0.5, -0.5)
