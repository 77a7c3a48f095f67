"""Training images from files: a folder, or a JSON list of sources."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.object_size import median_diameter
from napari_cellenhance.core.sources import ImageSource, stretch
from napari_cellenhance.io.source_lists import (
    check_settings,
    chosen_rows,
    read_arrays,
    read_index,
    read_page,
    read_source_list,
)

__all__ = ["read_label_folder", "read_planes", "read_source", "read_sources"]

_SUFFIXES = {".tif", ".tiff", ".png"}
_KNOWN = {
    "name", "index", "where", "npz", "key", "planes", "folder", "object_diameter_px",
    "objects_are_dark", "license", "min_side_px", "max_side_px", "weight",
    "pages",
}  # fmt: skip


def read_sources(
    path: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    object_diameter_px: float | None = None,
    objects_are_dark: bool = False,
) -> list[ImageSource]:
    """Read all sources of a training.

    Parameters
    ----------
    path : path
        A JSON file ``{"sources": [...]}`` (see :func:`read_source`), or a folder of images.
    data_root : path, optional
        Folder that the paths of a JSON file start from; default: the folder of the file.
    object_diameter_px, objects_are_dark
        For a folder: typical object diameter in pixels, and the contrast.

    Raises
    ------
    ImageError
        A file is missing, not an image, or holds no image that fits.
    """
    path = Path(path)
    if path.is_dir():
        entry = {
            "name": path.name, "folder": ".", "object_diameter_px": object_diameter_px,
            "objects_are_dark": objects_are_dark,
        }  # fmt: skip
        return [read_source(entry, path)]
    root = path.parent if data_root is None else Path(data_root)
    return [read_source(entry, root) for entry in read_source_list(path)]


def read_source(entry: Mapping[str, Any], root: Path) -> ImageSource:
    """Read one source: ``index`` (multi-page TIFFs listed in JSON), ``npz`` (``key``, ``planes``) or ``folder``.

    Of an index ``where`` (values of its rows), ``min_side_px``, ``max_side_px`` and ``pages`` (a list) choose images.
    """
    planes, labels = read_planes(entry, root)
    dark = bool(entry.get("objects_are_dark", False))
    given = entry.get("object_diameter_px")
    diameters = [float(given) if given else _diameter(lab) for lab in labels]
    images = [stretch(p, objects_are_dark=dark) for p in planes]
    return ImageSource(str(entry.get("name", "images")), images, diameters, labels, float(entry.get("weight", 1.0)))


def read_planes(entry: Mapping[str, Any], root: Path) -> tuple[list[NDArray[Any]], list[NDArray[np.integer] | None]]:
    """Planes of a source in their own grey values, and the labels of each where there are any.

    Raises
    ------
    ImageError
        A file is missing or not an image.
    ParameterError
        Unknown settings, or none that says where the images are.
    """
    check_settings(entry, _KNOWN)
    if "index" in entry:
        return _from_index(entry, root)
    if "npz" in entry:
        planes = _from_npz(entry, root)
    elif "folder" in entry:
        planes = _from_folder(root / entry["folder"])
    else:
        raise ParameterError(f"the source {entry.get('name')!r} has none of 'index', 'npz', 'folder'")
    return planes, [None] * len(planes)


def _grey(image: NDArray[Any]) -> NDArray[Any]:
    """Samples of RGB(A) in the last axis → luminance (Rec. 709)."""
    return np.asarray(image[..., :3], np.float32) @ np.array([0.2125, 0.7154, 0.0721], np.float32)


def _diameter(labels: NDArray[np.integer] | None) -> float:
    """Median equivalent diameter of the instances, in px; 24 where nothing is known."""
    return 24.0 if labels is None else median_diameter(labels) or 24.0


def _from_index(entry: Mapping[str, Any], root: Path) -> tuple[list[NDArray[Any]], list[NDArray[np.integer] | None]]:
    index = root / entry["index"]
    rows = chosen_rows(entry, read_index(index))
    images = [read_page(index.parent / row["images"], row["page"]) for row in rows]
    labels = [read_page(index.parent / row["labels"], row["page"]) for row in rows]
    return [_grey(image) if image.ndim == 3 else image for image in images], [*labels]


def _from_npz(entry: Mapping[str, Any], root: Path) -> list[NDArray[Any]]:
    path, chosen = root / entry["npz"], entry.get("planes", [[]])
    if "key" not in entry or isinstance(chosen, str):
        raise ParameterError(f"the source {entry.get('name')!r} needs 'key', and a list of planes where there are many")
    (stack,) = read_arrays(path, entry["key"])
    try:
        planes = [stack[tuple(plane)] for plane in chosen]
    except IndexError as error:
        raise ImageError(
            f"{path} has an array of shape {stack.shape}, without a plane that was named ({error})"
        ) from error
    return [_checked_plane(plane, path) for plane in planes]


def _checked_plane(plane: NDArray[Any], path: Path) -> NDArray[Any]:
    if plane.ndim not in (2, 3) or (plane.ndim == 3 and plane.shape[-1] < 3) or plane.dtype.kind not in "biuf":
        raise ImageError(f"{path} gives planes of shape {plane.shape}, {plane.dtype}; expected (Y, X) or (Y, X, 3)")
    return _grey(plane) if plane.ndim == 3 else plane


def read_label_folder(folder: str | os.PathLike[str]) -> list[NDArray[np.integer]]:
    """Label images of a folder, each of shape (…, Y, X); 0 is ground.

    Raises
    ------
    ImageError
        No TIFF or PNG image in it, or one that holds no whole numbers.
    """
    from napari_cellenhance.io.images import read

    found: list[NDArray[np.integer]] = []
    for path in _image_paths(Path(folder)):
        image = read(path)
        array = np.asarray(image.image)
        if image.axes.endswith("S") or array.dtype.kind not in "iub":
            raise ImageError(
                f"{path} is no label image (axes {image.axes}, {array.dtype}); expected one whole number for each "
                "pixel, 0 where the ground is"
            )
        found.append(array)
    return found


def _image_paths(folder: Path) -> list[Path]:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise ImageError(f"{folder} holds no TIFF or PNG image; expected a folder of images")
    return paths


def _from_folder(folder: Path) -> list[NDArray[Any]]:
    from napari_cellenhance.io.images import read

    planes: list[NDArray[Any]] = []
    for path in _image_paths(folder):
        image = read(path)
        array = np.asarray(image.image)
        if image.axes.endswith("S"):
            array = _grey(array)
        planes.extend(array.reshape(-1, *array.shape[-2:]))
    return planes
