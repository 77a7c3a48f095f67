"""Images together with what is true about them: label images, masks, or points.

Three ways to say which belong together:

- a JSON file ``{"sources": [...]}``: each source has a ``name`` and ``index`` (multi-page TIFFs listed in JSON, with
  ``where`` to choose rows), or ``npz`` (arrays ``key`` and ``masks`` or ``labels``, optionally ``planes``: the name of
  an array of indices), or ``folder``;
- a folder with ``cells.tif`` and beside it ``cells_labels.tif`` (each object its own number), ``cells_mask.tif``
  (objects not 0) or ``cells_points.csv`` (columns y and x, or axis-0 and axis-1, in pixels);
- a folder with the folders ``images`` and ``labels``, ``masks`` or ``points``, in which equal names belong together.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.io.source_lists import (
    check_settings,
    chosen_rows,
    read_arrays,
    read_index,
    read_page,
    read_source_list,
)

__all__ = ["LabelledImage", "Selection", "read_labelled", "read_labelled_source"]

_SUFFIXES = (".tif", ".tiff", ".png")
_ENDINGS = {"_labels": "labels", "_mask": "masks", "_points": "points"}
_KNOWN = {
    "name", "index", "where", "npz", "key", "labels", "masks", "planes", "folder", "object_diameter_px",
    "objects_are_dark", "license", "min_side_px", "max_side_px", "weight",
}  # fmt: skip
_DEFAULT_DIAMETER_PX = 24.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImage:
    """One plane and its truth; what is not known is None.

    Parameters
    ----------
    source, name : str
        Data set, and the image in it.
    image : ndarray of shape (Y, X), float32
        Grey values as stored, 0 or more, divided by the largest possible (8 bit) or the largest one; dark objects
        inverted.
    labels : ndarray of int, shape (Y, X), or None
        Each object its own number.
    mask : ndarray of bool, shape (Y, X), or None
    points : ndarray of shape (N, 2) or None
        Centres of the objects, row and column in pixels.
    diameter_px : float
        Typical diameter of the objects in this image.
    """

    source: str
    name: str
    image: NDArray[np.float32]
    labels: NDArray[np.int32] | None
    mask: NDArray[np.bool_] | None
    points: NDArray[np.float64] | None
    diameter_px: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which images of a source to read.

    Parameters
    ----------
    max_images : int
        At most so many of each source, drawn by ``seed``; 0 takes all.
    max_megapixels : float
        No further image once this is reached; 0 is no limit. One image is always taken.
    seed : int
    """

    max_images: int = 0
    max_megapixels: float = 0.0
    seed: int = 0

    def of(self, sizes_px: Sequence[int]) -> list[int]:
        """Indices to read, rising."""
        order = np.random.default_rng(self.seed).permutation(len(sizes_px))
        if self.max_images:
            order = order[: self.max_images]
        if self.max_megapixels and len(order):
            totals = np.cumsum([sizes_px[i] for i in order])
            order = order[: max(1, int((totals <= self.max_megapixels * 1e6).sum()))]
        return sorted(int(i) for i in order)


@dataclass(frozen=True, slots=True)
class _Entry:
    """An image that can be read, and how large it is."""

    name: str
    size_px: int
    read: Callable[[], tuple[NDArray[Any], dict[str, NDArray[Any]]]]


def read_labelled(
    path: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    selection: Selection | None = None,
    objects_are_dark: bool = False,
    object_diameter_px: float | None = None,
) -> list[LabelledImage]:
    """Read labelled images; see the top of this module for the ways to name them.

    Parameters
    ----------
    path : path
        A JSON file or a folder.
    data_root : path, optional
        Folder that the paths of a JSON file start from; default: the folder of the file.
    selection : Selection, optional
        Which images of each source; images that are not chosen are not read.
    objects_are_dark, object_diameter_px
        For a folder: the contrast, and the diameter in pixels where only points are known.

    Raises
    ------
    ImageError
        Nothing there, not readable, or a truth that does not fit its image.
    ParameterError
        A source with unknown settings.
    """
    path = Path(path)
    chosen = selection or Selection()
    if path.is_dir():
        settings = {"name": path.resolve().name, "folder": ".", "objects_are_dark": objects_are_dark}
        return read_labelled_source(settings | {"object_diameter_px": object_diameter_px}, path, chosen)
    root = path.parent if data_root is None else Path(data_root)
    return [image for source in read_source_list(path) for image in read_labelled_source(source, root, chosen)]


def read_labelled_source(
    settings: Mapping[str, Any], root: Path, selection: Selection | None = None
) -> list[LabelledImage]:
    """Read one source of a JSON file.

    Raises
    ------
    ImageError, ParameterError
        As for :func:`read_labelled`.
    """
    check_settings(settings, _KNOWN)
    name = str(settings.get("name", "images"))
    find = {"index": _indexed, "npz": _archived, "folder": _in_folder}
    kind = next((kind for kind in find if kind in settings), None)
    if kind is None:
        raise ParameterError(f"the source {name!r} has none of {', '.join(find)}")
    entries = find[kind](settings, root)
    if not entries:
        raise ImageError(f"the source {name!r} holds no image with labels, a mask or points; scores need one of them")
    return [_opened(entries[i], name, settings) for i in (selection or Selection()).of([e.size_px for e in entries])]


def _opened(entry: _Entry, source: str, settings: Mapping[str, Any]) -> LabelledImage:
    pixels, truth = entry.read()
    image = _grey_values(pixels, bool(settings.get("objects_are_dark", False)), entry.name)
    labels, mask, points = truth.get("labels"), truth.get("masks"), truth.get("points")
    for plane in (labels, mask):
        if plane is not None and plane.shape != image.shape:
            raise ImageError(f"{entry.name}: the image has shape {image.shape}, its truth {plane.shape}; expected one")
    ids = None if labels is None else labels.astype(np.int32)
    if ids is not None:
        mask, points = ids > 0, _centres(ids)
    given = settings.get("object_diameter_px")
    return LabelledImage(
        source=source,
        name=entry.name,
        image=image,
        labels=ids,
        mask=None if mask is None else mask > 0,
        points=points,
        diameter_px=float(given) if given else _diameter(ids),
    )


def _grey_values(pixels: NDArray[Any], is_dark: bool, name: str) -> NDArray[np.float32]:
    if pixels.ndim == 3 and pixels.shape[-1] in (3, 4):
        pixels = (pixels[..., :3] @ np.array([0.2125, 0.7154, 0.0721])).astype(np.float32)  # Rec. 709
        top = 255.0 if pixels.max(initial=0) <= 255 else float(pixels.max())
    else:
        top = 255.0 if pixels.dtype == np.uint8 else float(pixels.max(initial=0))
    if pixels.ndim != 2:
        raise ImageError(f"{name} has shape {pixels.shape}; expected one plane, grey or in colour")
    values = pixels.astype(np.float32)
    if not np.isfinite(values).all():
        raise ImageError(f"{name} contains NaN or infinite values; fill them first")
    values = np.clip(values / np.float32(top if top > 0 else 1.0), 0.0, None)
    return np.asarray(1.0 - values if is_dark else values, np.float32)


def _centres(labels: NDArray[np.int32]) -> NDArray[np.float64]:
    from napari_cellenhance.core.postprocess import centroids

    return centroids(labels)


def _diameter(labels: NDArray[np.int32] | None) -> float:
    """Median equivalent diameter of the instances, in px."""
    areas = np.zeros(0) if labels is None else np.bincount(labels.ravel())[1:]
    areas = areas[areas > 0]
    return float(np.median(2.0 * np.sqrt(areas / np.pi))) if areas.size else _DEFAULT_DIAMETER_PX


# --- where images are ---------------------------------------------------------------------


def _indexed(settings: Mapping[str, Any], root: Path) -> list[_Entry]:
    index = root / settings["index"]

    def entry(row: Mapping[str, Any]) -> _Entry:
        def read() -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
            pages = [read_page(index.parent / row[kind], row["page"]) for kind in ("images", "labels")]
            return pages[0], {"labels": pages[1]}

        return _Entry(str(row.get("id", row["page"])), math.prod(row["shape"][:2]), read)

    return [entry(row) for row in chosen_rows(settings, read_index(index))]


def _archived(settings: Mapping[str, Any], root: Path) -> list[_Entry]:
    path = root / settings["npz"]
    kind = "labels" if "labels" in settings else "masks"
    given = settings.get("planes", "")
    if "key" not in settings or kind not in settings or not isinstance(given, str):
        raise ParameterError(
            f"the source {settings.get('name')!r} needs 'key' and 'labels' or 'masks', and for 'planes' the name of an "
            "array of numbers"
        )
    stack, truth = read_arrays(path, settings["key"], settings[kind])
    if min(stack.ndim, truth.ndim) < 3 or len(stack) != len(truth):
        raise ImageError(
            f"{path} holds images of shape {stack.shape} and truth of {truth.shape}; expected as many planes"
        )
    chosen = read_arrays(path, given)[0] if given else np.arange(len(stack))
    if (
        chosen.ndim != 1
        or chosen.dtype.kind not in "iu"
        or (chosen.size and not 0 <= chosen.min() <= chosen.max() < len(stack))
    ):
        raise ImageError(f"{given!r} in {path} does not list planes of 0…{len(stack) - 1}")

    def entry(i: int) -> _Entry:
        return _Entry(f"plane {i}", int(stack[i].size), lambda: (stack[i], {kind: truth[i]}))

    return [entry(int(i)) for i in chosen]


def _in_folder(settings: Mapping[str, Any], root: Path) -> list[_Entry]:
    folder = root / settings["folder"]
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder; check the path")
    if (folder / "images").is_dir():
        pairs = _in_sister_folders(folder)
    else:
        pairs = _side_by_side(folder)
    return [_file_entry(image, truth, kind) for image, truth, kind in pairs]


def _side_by_side(folder: Path) -> list[tuple[Path, Path, str]]:
    files = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in (*_SUFFIXES, ".csv")}
    pairs = []
    for stem, path in files.items():
        for ending, kind in _ENDINGS.items():
            truth = files.get(stem + ending)
            if path.suffix.lower() in _SUFFIXES and truth is not None:
                pairs.append((path, truth, kind))
                break
    return pairs


def _in_sister_folders(folder: Path) -> list[tuple[Path, Path, str]]:
    pairs = []
    for path in sorted(p for p in (folder / "images").iterdir() if p.suffix.lower() in _SUFFIXES):
        for kind in _ENDINGS.values():
            suffixes = (".csv",) if kind == "points" else _SUFFIXES
            found = [folder / kind / f"{path.stem}{suffix}" for suffix in suffixes]
            truth = next((f for f in found if f.is_file()), None)
            if truth is not None:
                pairs.append((path, truth, kind))
                break
    return pairs


def _file_entry(image: Path, truth: Path, kind: str) -> _Entry:
    from napari_cellenhance.io.images import read
    from napari_cellenhance.io.points import read_points

    def load() -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        known = read_points(truth)[:, -2:] if kind == "points" else np.squeeze(np.asarray(read(truth).image))
        pixels = np.asarray(read(image).image)
        return pixels if pixels.shape[-1] in (3, 4) else np.squeeze(pixels), {kind: known}

    # The size on disk stands for the number of pixels: reading every image to choose some would take long.
    return _Entry(image.name, image.stat().st_size, load)
