"""Tables of objects: where each is, how large, of what shape, and how bright in the images that show it.

References
----------
.. [1] van der Walt et al., "scikit-image", PeerJ 2014: ``regionprops_table``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.workflows._measured import MeasuredImage, OpenedLayer, open_layer

__all__ = ["columns_of", "measure_objects", "rows_of_plane"]

_SHAPE = (
    "label", "area", "centroid", "bbox", "equivalent_diameter_area", "axis_major_length", "axis_minor_length",
    "eccentricity", "orientation", "perimeter", "solidity",
)  # fmt: skip
_BRIGHTNESS = ("mean", "sd", "sum", "min", "max")
_PLACE = ("t", "c", "z", "label")
_GEOMETRY = (
    "area_px", "area_um2", "centroid_y_px", "centroid_x_px", "centroid_y_um", "centroid_x_um", "bbox_y0", "bbox_x0",
    "bbox_y1", "bbox_x1", "equivalent_diameter_px", "major_axis_px", "minor_axis_px", "eccentricity",
    "orientation_deg", "perimeter_px", "solidity",
)  # fmt: skip


def measure_objects(
    labels: MeasuredImage, images: Sequence[MeasuredImage], pixel_size_um: Mapping[str, float]
) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Measure every object on every plane ([1]_).

    Parameters
    ----------
    labels : MeasuredImage
        Whole numbers, 0 is ground. An object of a volume has one row for each plane that it lies on.
    images : sequence of MeasuredImage
        Of the same planes; their names begin the columns of grey values. An image with more channels than the labels is
        measured in each of them (``raw_c0_mean``, ``raw_c1_mean``, …). Colours are taken as their luminance.
    pixel_size_um : mapping
        Axis letter → size in µm; where Y and X are missing, the columns in µm are empty (NaN).

    Returns
    -------
    columns : tuple of str
        Names and order of the columns, also where there is no object.
    rows : list of dict
        ``t, c, z, label``, then geometry in pixels and µm, then mean, standard deviation, sum, minimum and maximum
        of the grey values of each image.

    Raises
    ------
    ImageError
        Images that do not show the planes of the labels, or labels that are no whole numbers.
    AxesError
        Axes that do not fit.
    """
    opened = open_layer(labels)
    shown = [_Shown(open_layer(image), opened) for image in images]
    sizes = tuple(float(pixel_size_um.get(axis, math.nan)) for axis in "YX")
    rows: list[dict[str, Any]] = []
    for number, index in enumerate(opened.planes):
        ids = opened.ids(number)
        if not ids.any():
            continue
        found = [part for image in shown for part in image.planes(index)]
        rows += rows_of_plane(ids, [plane for _, plane in found], [name for name, _ in found], index, sizes)
    return columns_of([name for image in shown for name in image.names]), rows


def columns_of(names: Sequence[str]) -> tuple[str, ...]:
    """Columns of a table of objects that were measured in images of these names."""
    return (*_PLACE, *_GEOMETRY, *(f"{name}_{what}" for name in names for what in _BRIGHTNESS))


class _Shown:
    """An image in which objects are measured: which of its planes belong to a plane of the labels."""

    def __init__(self, layer: OpenedLayer, labels: OpenedLayer) -> None:
        ours, theirs = layer.pixels.shape, labels.pixels.shape
        is_same_place = (ours[0], *ours[2:]) == (theirs[0], *theirs[2:])
        if not is_same_place or theirs[1] not in (1, ours[1]):
            raise ImageError(
                f"“{layer.name}” has the shape {ours}, the labels {theirs} (T, C, Z, Y, X); expected the same planes, "
                "and as many channels or labels of one"
            )
        self._layer = layer
        self._has_own_channels = theirs[1] == 1 and ours[1] > 1
        self.names = (
            [f"{layer.name}_c{channel}" for channel in range(ours[1])] if self._has_own_channels else [layer.name]
        )

    def planes(self, index: tuple[int, int, int]) -> list[tuple[str, NDArray[np.float64]]]:
        """Name and grey values for a plane (t, c, z) of the labels."""
        t, c, z = index
        channels = range(len(self.names)) if self._has_own_channels else [c]
        return [
            (name, np.asarray(self._layer.pixels.read((t, channel, z)), np.float64))
            for name, channel in zip(self.names, channels, strict=True)
        ]


def rows_of_plane(
    ids: NDArray[np.int64],
    planes: Sequence[NDArray[np.float64]],
    names: Sequence[str],
    index: tuple[int, int, int],
    sizes_um: tuple[float, ...],
    corner: tuple[int, int] = (0, 0),
) -> list[dict[str, Any]]:
    """Rows of the objects of a plane, or of a window of it.

    Parameters
    ----------
    ids : ndarray of shape (Y, X)
        0 is not measured.
    planes, names
        Grey values of the same window, and how their columns begin.
    index : (t, c, z)
    sizes_um : (float, float)
        Height and width of a pixel; NaN where they are not known.
    corner : (row, column)
        Of the window in its plane.
    """
    from skimage.measure import regionprops_table

    height, width = sizes_um
    shape = regionprops_table(ids, properties=_SHAPE)  # type: ignore[no-untyped-call]
    for axis, start in enumerate(corner):
        for name in (f"centroid-{axis}", f"bbox-{axis}", f"bbox-{axis + 2}"):
            shape[name] = shape[name] + start
    table: dict[str, NDArray[Any]] = {
        "area_px": shape["area"], "area_um2": shape["area"] * height * width,
        "centroid_y_px": shape["centroid-0"], "centroid_x_px": shape["centroid-1"],
        "centroid_y_um": shape["centroid-0"] * height, "centroid_x_um": shape["centroid-1"] * width,
        "bbox_y0": shape["bbox-0"], "bbox_x0": shape["bbox-1"], "bbox_y1": shape["bbox-2"], "bbox_x1": shape["bbox-3"],
        "equivalent_diameter_px": shape["equivalent_diameter_area"], "major_axis_px": shape["axis_major_length"],
        "minor_axis_px": shape["axis_minor_length"], "eccentricity": shape["eccentricity"],
        "orientation_deg": np.degrees(shape["orientation"]), "perimeter_px": shape["perimeter"],
        "solidity": shape["solidity"],
    }  # fmt: skip
    for name, plane in zip(names, planes, strict=True):
        bright = regionprops_table(  # type: ignore[no-untyped-call]
            ids, plane, properties=("intensity_mean", "intensity_min", "intensity_max"), extra_properties=(_sd, _sum)
        )
        table |= {
            f"{name}_mean": bright["intensity_mean"], f"{name}_sd": bright["_sd"], f"{name}_sum": bright["_sum"],
            f"{name}_min": bright["intensity_min"], f"{name}_max": bright["intensity_max"],
        }  # fmt: skip
    place = dict(zip("tcz", index, strict=True))
    return [
        {**place, "label": int(label), **{name: values[row].item() for name, values in table.items()}}
        for row, label in enumerate(shape["label"])
    ]


def _sd(is_object: NDArray[np.bool_], grey: NDArray[np.float64]) -> float:
    return float(grey[is_object].std())


def _sum(is_object: NDArray[np.bool_], grey: NDArray[np.float64]) -> float:
    return float(grey[is_object].sum())
