"""A contact sheet of crops: what landed in each class, at a glance."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.crop_library import CLASSES, CropLibrary, FoundObject
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.io.panel_figures import Picture, mosaic_png

__all__ = ["common_side_px", "contact_sheet_png", "square_of", "white_of_sources"]

N_COLUMNS = 10
N_ROWS = 2
"""Of each class; of more crops some are shown, at equal steps of the score or in order."""


def contact_sheet_png(path: str | os.PathLike[str], library: CropLibrary) -> None:
    """Draw crops of each class on ground of their own size, and backgrounds.

    Parameters
    ----------
    path : path
    library : CropLibrary
        All crops of one image are shown on one scale, so that dim ones look dim.

    Raises
    ------
    ParameterError
        No crop.
    WriteError
        It cannot be written.
    """
    if not library.objects:
        raise ParameterError("there is no crop to show; find objects first")
    side = common_side_px(library)
    white = white_of_sources(library)
    rows: dict[str, list[Picture]] = {}
    for kind in CLASSES:
        found = library.of(kind)
        shown = _spread(sorted(found, key=_order), N_COLUMNS * N_ROWS)
        pictures = [_picture(one, side, white) for one in shown]
        for number, start in enumerate(range(0, len(pictures), N_COLUMNS)):
            rows[f"{kind}, {len(found)}" if not number else f"{kind} …"] = pictures[start : start + N_COLUMNS]
    if library.backgrounds:
        rows[f"background, {len(library.backgrounds)}"] = [
            Picture(
                one.source[:24],
                _squared(_grey(one.pixels)),
                limits=(0.0, white.get(one.source) or float(one.pixels.max()) or 1.0),
            )
            for one in library.backgrounds[:N_COLUMNS]
        ]
    mosaic_png(path, rows, N_COLUMNS)


def _order(one: FoundObject) -> tuple[float, int]:
    return (-one.score if np.isfinite(one.score) else 0.0, 0)


def _spread(found: Sequence[FoundObject], n: int) -> list[FoundObject]:
    if len(found) <= n:
        return list(found)
    return [found[i] for i in np.linspace(0, len(found) - 1, n).round().astype(int)]


def common_side_px(library: CropLibrary) -> int:
    """Side of a square that most crops fit in; larger ones are shown with fewer pixels. 2 without any."""
    found = [one for one in library.objects if one.kind != "discarded"] or library.objects
    if not found:
        return 2
    return int(np.percentile([max(one.crop.mask.shape) for one in found], 90)) + 2


def square_of(one: FoundObject, side: int) -> NDArray[np.float32]:
    """Grey values of a crop in the middle of a black square of ``side`` pixels; of a larger one every n-th pixel."""
    grey = _grey(one.crop.pixels)
    step = -(-max(grey.shape) // side)
    return _squared(grey[::step, ::step], side)


def _picture(one: FoundObject, side: int, white: Mapping[str, float]) -> Picture:
    square = square_of(one, side)
    title = one.reason if one.kind == "discarded" else ""
    if not title:
        title = f"score {one.score:.3g}" if np.isfinite(one.score) else f"{one.crop.area_px} px"
    return Picture(title, square, limits=(0.0, white[one.crop.source]))


def _squared(grey: NDArray[np.float32], side: int = 0) -> NDArray[np.float32]:
    """In the middle of a black square."""
    side = side or max(grey.shape)
    square = np.zeros((side, side), np.float32)
    y, x = ((side - length) // 2 for length in grey.shape)
    square[y : y + grey.shape[0], x : x + grey.shape[1]] = grey
    return square


def _grey(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    return pixels if pixels.ndim == 2 else np.asarray(pixels.mean(axis=-1), np.float32)


def white_of_sources(library: CropLibrary) -> dict[str, float]:
    """Grey value shown as white for each source: the brightest half percent of its objects is cut off."""
    pixels: dict[str, list[NDArray[np.float32]]] = {}
    for one in library.objects:
        pixels.setdefault(one.crop.source, []).append(_grey(one.crop.pixels)[one.crop.mask])
    return {source: float(np.percentile(np.concatenate(found), 99.5)) or 1.0 for source, found in pixels.items()}
