"""Results of a batch as layers, with their sources; large ones stay on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_cellenhance.io.images import read
from napari_cellenhance.io.lazy_images import open_lazily
from napari_cellenhance.widgets._layers import METADATA_KEY
from napari_cellenhance.widgets._results import LayerTuple
from napari_cellenhance.workflows.batch import BatchOutcome

__all__ = ["MOST_AT_ONCE", "OnDisk", "file_layer", "outcome_layers"]

MOST_AT_ONCE = 8
_NAMES = {"T": "time", "C": "channel", "Z": "z", "Y": "y", "X": "x"}
_CHUNK_PX = 1024


class OnDisk:
    """A level of a file that is opened anew for each window; nothing stays open.

    Parameters
    ----------
    path : Path
    level : int
    shape, dtype
        Of the level.
    """

    def __init__(self, path: Path, level: int, shape: tuple[int, ...], dtype: Any) -> None:
        self.path, self.level = path, level
        self.shape, self.dtype, self.ndim = shape, np.dtype(dtype), len(shape)

    def __getitem__(self, index: tuple[int | slice, ...]) -> Any:
        """Pixels of a window."""
        with open_lazily(self.path) as image:
            return image.levels[self.level][index]


def file_layer(path: Path, name: str, large_from_mb: float) -> LayerTuple:
    """One image file as a layer, lazily where it is larger than ``large_from_mb``; labels as labels.

    Raises
    ------
    ImageError, OSError
        It cannot be read.
    """
    opened: Any
    if path.stat().st_size > large_from_mb * 1e6:
        with open_lazily(path) as opened:
            axes = opened.axes or "TCZYX"[5 - opened.levels[0].ndim :]
            levels = [_lazy(path, n, level.shape, level.dtype, axes) for n, level in enumerate(opened.levels)]
    else:
        opened = read(path)
        axes, levels = opened.axes or "TCZYX"[5 - opened.image.ndim :], [opened.image]
    spatial = [letter for letter in axes if letter != "S"]
    sizes = opened.pixel_size_um
    kwargs: dict[str, Any] = {
        "name": name,
        "scale": [sizes.get(letter, 1.0) for letter in spatial],
        "units": ["pixel" if letter not in sizes else "s" if letter == "T" else "um" for letter in spatial],
        "axis_labels": [_NAMES[letter] for letter in spatial],
        "metadata": {METADATA_KEY: dict(opened.provenance)} if opened.provenance else {},
    }
    is_pyramid = len(levels) > 1
    kwargs |= {"multiscale": True} if is_pyramid else {}
    data = levels if is_pyramid else levels[0]
    if path.name.endswith("_labels.ome.tif"):
        return data, {**kwargs, "opacity": 0.5}, "labels"
    is_colour = "S" in axes
    kwargs |= {"rgb": True} if is_colour else {"rgb": False, "colormap": "gray"}
    return data, kwargs, "image"


def _lazy(path: Path, level: int, shape: tuple[int, ...], dtype: Any, axes: str) -> Any:
    import dask.array as da

    whole = {"Y": _CHUNK_PX, "X": _CHUNK_PX, "S": 4}
    chunks = tuple(min(n, whole.get(letter, 1)) for n, letter in zip(shape, axes, strict=True))
    as_dask: Any = da.from_array
    return as_dask(OnDisk(path, level, shape, dtype), chunks=chunks, name=False)


def outcome_layers(outcomes: Sequence[BatchOutcome], large_from_mb: float) -> list[LayerTuple]:
    """Source, result and labels of each file, in this order from below.

    Raises
    ------
    ImageError, OSError
        A file cannot be read, or has been moved.
    """
    found: list[LayerTuple] = []
    for outcome in outcomes:
        images = [path for path in outcome.targets if path.name.lower().endswith((".tif", ".tiff", ".zarr"))]
        ordered = [outcome.source, *reversed(images)]  # the image was written last
        labels = [path for path in ordered if path.name.endswith("_labels.ome.tif")]
        for path in [*[path for path in ordered if path not in labels], *labels]:
            name = outcome.name if path == outcome.source else path.name.split(".")[0] + " (result)"
            found.append(file_layer(path, name, large_from_mb))
    return found
