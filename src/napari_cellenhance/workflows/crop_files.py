"""Files in, a library of crops out: images, and beside them labels, points or boxes of the same names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_cellenhance.core.crop_library import CropLibrary, add
from napari_cellenhance.core.errors import ImageError, ParameterError, TargetExistsError
from napari_cellenhance.io.json_ready import load_json
from napari_cellenhance.workflows._targets import SUFFIXES, find_sources
from napari_cellenhance.workflows.crops import CropLayer, CropOptions, CropRequest, CropResult
from napari_cellenhance.workflows.crops import run as cut
from napari_cellenhance.workflows.measure_pair_files import pair_by_name
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, never_cancelled, no_progress

if TYPE_CHECKING:
    from napari_cellenhance.core.crop_library import CropClass

__all__ = [
    "CropFilesRequest", "CropFilesResult", "folder_stamp", "read_library", "read_steps", "run", "write_library",
]  # fmt: skip

PathLike = str | os.PathLike[str]
_ENDINGS: dict[str, tuple[str, ...]] = {
    "labels": ("_labels", "_masks", "_mask"), "classes": ("_classes",), "points": ("_points",), "boxes": ("_boxes",),
}  # fmt: skip
"""Of files beside images: where a folder holds several kinds, these are preferred."""
_TRUTH_ENDINGS = tuple(ending for endings in _ENDINGS.values() for ending in endings)


@dataclass(frozen=True, slots=True, kw_only=True)
class CropFilesRequest:
    """Which files to cut, and where the crops go.

    Parameters
    ----------
    images : tuple of path
        Files, folders or patterns; TIFF and PNG.
    out : path
        Folder of the library, made if missing.
    labels, classes, boxes, unwanted_boxes : path or None
        A file for one image, or a folder in which equal names belong together.
    points : mapping of str to path
        The same for each class.
    axes : str
        Of all images; empty: as in the files.
    channels : "grey", "colour" or tuple of one int
    options : CropOptions
    is_added : bool
        Add to the library that is in ``out``.
    overwrite : bool
        Replace it.
    has_sheet : bool
        Draw a contact sheet into the folder.
    """

    images: tuple[PathLike, ...]
    out: PathLike
    labels: PathLike | None = None
    classes: PathLike | None = None
    points: Mapping[str, PathLike] = field(default_factory=dict)
    boxes: PathLike | None = None
    unwanted_boxes: PathLike | None = None
    axes: str = ""
    channels: Literal["grey", "colour"] | tuple[int, ...] = "grey"
    options: CropOptions = field(default_factory=CropOptions)
    is_added: bool = False
    overwrite: bool = False
    has_sheet: bool = True

    def __post_init__(self) -> None:
        if not self.images:
            raise ParameterError("there is nothing to cut; name at least one image or folder")
        if self.is_added and self.overwrite:
            raise ParameterError("crops are either added to a library or replace it; choose one of both")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CropFilesResult:
    """What was found and written.

    Parameters
    ----------
    folder : Path
    found : CropResult
        Of these images.
    collection : CropLibrary
        All that is in the folder now.
    notes : tuple of str
    """

    folder: Path
    found: CropResult
    collection: CropLibrary
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[CropClass, int]:
        """Crops of each class in the folder."""
        return self.collection.counts()


def run(
    request: CropFilesRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> CropFilesResult:
    """Cut objects out of files and write the library; stopped early, nothing is written.

    Raises
    ------
    ImageError, AxesError
        A file that cannot be read or does not fit the others.
    ParameterError
        No such files, no object at all, or settings that exclude each other.
    TargetExistsError
        The folder holds something already.
    WriteError
        It cannot be written.
    """
    from napari_cellenhance.io import crop_folders

    out = Path(request.out)
    before = crop_folders.read_library(out) if request.is_added else None
    if before is None and not request.overwrite and crop_folders.is_crop_folder(out):
        # Told before the work, not after it.
        raise TargetExistsError(f"{out} holds crops already; add to them, choose another folder, or allow overwriting")
    layers, notes = _layers(request)
    found = cut(CropRequest(layers=layers, options=request.options), on_progress=on_progress, is_cancelled=is_cancelled)
    library = found.collection if before is None else add(before, found.collection)
    notes += found.collection.notes
    if found.is_complete:
        if not found.collection.objects:
            raise ParameterError("no object was found; try another way, a lower least area, or other settings")
        write_library(out, library, found.record, overwrite=request.overwrite or request.is_added,
                      has_sheet=request.has_sheet)  # fmt: skip
    return CropFilesResult(folder=out, found=found, collection=library, notes=tuple(dict.fromkeys(notes)))


def write_library(
    folder: PathLike,
    library: CropLibrary,
    record: Mapping[str, Any],
    *,
    overwrite: bool = False,
    has_sheet: bool = True,
) -> Path:
    """Write a library with its contact sheet.

    Raises
    ------
    ParameterError
        No crop.
    TargetExistsError, WriteError
        As for :func:`napari_cellenhance.io.crop_folders.write_crops`.
    """
    from napari_cellenhance.io.crop_folders import SHEET, write_crops
    from napari_cellenhance.io.crop_sheets import contact_sheet_png

    place = write_crops(folder, library, record, overwrite=overwrite)
    if has_sheet:
        contact_sheet_png(place / SHEET, library)
    return place


def read_library(folder: PathLike) -> CropLibrary:
    """Read a library as it lies in its folder, what was left out included.

    Raises
    ------
    ParameterError, ImageError
        As for :func:`napari_cellenhance.io.crop_folders.read_library`.
    """
    from napari_cellenhance.io import crop_folders

    return crop_folders.read_library(folder)


def read_steps(folder: PathLike) -> list[dict[str, Any]]:
    """How a library was made, as far as its record tells; damaged or missing: nothing."""
    from napari_cellenhance.io.crop_folders import RECORD

    try:
        told = load_json(Path(folder) / RECORD)
    except (OSError, ValueError):
        return []
    if not isinstance(told, dict):
        return []
    own = {key: value for key, value in told.items() if key not in ("software", "white", "notes", "steps")}
    steps = told.get("steps", [])
    return [*(steps if isinstance(steps, list) else []), *([own] if own.get("images") else [])]


def folder_stamp(folder: PathLike) -> frozenset[tuple[str, int]]:
    """Files of a library with the time of their last change: whether another program has touched it meanwhile."""
    place = Path(folder)
    found = (path for path in place.rglob("*") if path.is_file())
    return frozenset((path.relative_to(place).as_posix(), path.stat().st_mtime_ns) for path in found)


# --- which belong together --------------------------------------------------------------------


def _layers(request: CropFilesRequest) -> tuple[tuple[CropLayer, ...], list[str]]:
    from napari_cellenhance.io.boxes import read_boxes
    from napari_cellenhance.io.images import read
    from napari_cellenhance.io.points import read_points

    paths = _images(request)
    notes: list[str] = []
    labels = _partners(paths, request.labels, "labels", notes)
    classes = _partners(paths, request.classes, "classes", notes)
    boxes = _partners(paths, request.boxes, "boxes", notes)
    unwanted = _partners(paths, request.unwanted_boxes, "boxes", notes)
    points = {name: _partners(paths, place, "points", notes) for name, place in request.points.items()}
    by = {"labels": [labels], "painted": [labels], "boxes": [boxes, unwanted], "points": [*points.values()]}
    needed = [found for found in by.get(request.options.way, []) if found is not None]
    layers = []
    for path in paths:
        if needed and not any(path in found for found in needed):
            continue  # told by _partners
        file = read(path)
        layers.append(
            CropLayer(
                name=path.name,
                image=file.image,
                axes=request.axes or file.axes,
                channels=request.channels,
                labels=_image_at(labels, path),
                classes=_image_at(classes, path),
                points={name: read_points(found[path]) for name, found in points.items() if found and path in found},
                boxes=read_boxes(boxes[path]) if boxes and path in boxes else None,
                unwanted_boxes=read_boxes(unwanted[path]) if unwanted and path in unwanted else None,
            )
        )
    return tuple(layers), notes


def _images(request: CropFilesRequest) -> list[Path]:
    found: dict[Path, None] = {}
    for asked in request.images:
        inside = find_sources(asked)
        if Path(asked).is_dir():
            images = tuple(path for path in inside if not _stem(path).endswith(_TRUTH_ENDINGS))
            inside = images or inside
        found |= dict.fromkeys(inside)
    return list(found)


def _partners(
    paths: list[Path], place: PathLike | None, kind: Literal["labels", "classes", "points", "boxes"], notes: list[str]
) -> dict[Path, Path] | None:
    """File that belongs to each image; None where nothing was asked."""
    if place is None:
        return None
    where = Path(place)
    if not where.exists():
        raise ParameterError(f"there is no file or folder {where}; check the spelling and the current folder")
    if not where.is_dir():
        if len(paths) > 1:
            raise ParameterError(f"{where} is one file for {len(paths)} images; name a folder with a file for each")
        return {paths[0]: where}
    endings = (".csv",) if kind in ("points", "boxes") else SUFFIXES
    files = sorted(p for p in where.iterdir() if p.name.lower().endswith(endings) and p not in paths)
    files = [p for p in files if _stem(p).endswith(_ENDINGS[kind])] or files
    pairs, failures, more = pair_by_name(paths, files, "objects" if endings == SUFFIXES else "points", folder=where)
    notes += [*failures, *more]
    return dict(pairs)


def _stem(path: Path) -> str:
    return path.name.split(".")[0].lower()


def _image_at(found: Mapping[Path, Path] | None, path: Path) -> Any:
    from napari_cellenhance.io.images import read

    if found is None or path not in found:
        return None
    file = read(found[path])
    if "S" in file.axes:
        raise ImageError(f"{found[path]} is a colour picture; expected labels, one whole number for each pixel")
    return file.image
