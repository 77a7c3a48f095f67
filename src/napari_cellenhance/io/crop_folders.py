"""A library of crops as a folder that people can look at and edit.

::

    crops/
      target/       00001_cells_y120_x88.tif     one file for each object, NaN (no number) outside it
      unwanted/     00002_cells_y12_x310.tif
      discarded/    00003_cells_y0_x51.tif       what was left out, with the reason in the table
      backgrounds/  cells.tif                    the image, NaN where objects were
      crops.csv                                  one line for each file
      crops.csv.json                             grey values of the sources, and how the library was made

The folder a file lies in is its class: move a file to reclassify it, delete it to leave it out. All else is written in
the file itself, and in the table for files that another program saved again.
"""

from __future__ import annotations

import csv
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.crop_library import CLASSES, CropClass, CropLibrary, FoundObject
from napari_cellenhance.core.crops import Background, CropSet, ObjectCrop
from napari_cellenhance.core.errors import ImageError, ParameterError, TargetExistsError, WriteError
from napari_cellenhance.io.images import read, safe_name, write
from napari_cellenhance.io.json_ready import load_json
from napari_cellenhance.io.tables import write_table

__all__ = ["BACKGROUNDS", "RECORD", "SHEET", "TABLE", "is_crop_folder", "read_crops", "read_library", "write_crops"]

TABLE, RECORD, BACKGROUNDS, SHEET = "crops.csv", "crops.csv.json", "backgrounds", "crops.png"
_OWN = {*CLASSES, TABLE, RECORD, BACKGROUNDS, SHEET}
_SUFFIXES = (".tif", ".tiff")
_SOURCE_LETTERS = 60
_KEY = "crop"


def is_crop_folder(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder looks like one that :func:`write_crops` wrote."""
    place = Path(folder)
    return place.is_dir() and any((place / name).exists() for name in (TABLE, *CLASSES))


# --- writing ----------------------------------------------------------------------------------


def write_crops(
    folder: str | os.PathLike[str],
    crops: CropLibrary | CropSet,
    record: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a library; the folder appears whole or not at all.

    Parameters
    ----------
    folder : path
        The folder above it must exist.
    crops : CropLibrary or CropSet
    record : mapping, optional
        How the library was made, JSON-ready.
    overwrite : bool
        Replace a library that is there already. A folder that holds anything else is never touched.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ParameterError
        Nothing to write.
    TargetExistsError
        There is a library and ``overwrite`` is False, or a folder with other things in it.
    WriteError
        Disk full, no permission…; what was there before is unchanged.
    """
    library = crops if isinstance(crops, CropLibrary) else _as_library(crops)
    if not library.objects:
        raise ParameterError("there is no crop to write; find objects first")
    target = Path(folder)
    with _whole_folder(target, overwrite) as temporary:
        for name in (*CLASSES, BACKGROUNDS):
            (temporary / name).mkdir()
        rows = [_write_object(temporary, number, one) for number, one in enumerate(library.objects, 1)]
        for number, background in enumerate(library.backgrounds, 1):
            _write_background(temporary / BACKGROUNDS, number, background)
        told = {"software": "napari-cellenhance", "white": dict(library.white), "notes": list(library.notes)}
        write_table(temporary / TABLE, rows, {**told, **(record or {})})
    return target


def _as_library(crops: CropSet) -> CropLibrary:
    kept = [FoundObject(crop=crop, kind="target") for crop in crops.target]
    kept += [FoundObject(crop=crop, kind="unwanted") for crop in crops.unwanted]
    return CropLibrary(objects=tuple(kept), backgrounds=crops.backgrounds, white=crops.white)


@contextmanager
def _whole_folder(target: Path, overwrite: bool) -> Iterator[Path]:
    """A new folder beside the target, which takes its place when the block ends well."""
    _refuse(target, overwrite)
    mark = uuid.uuid4().hex[:12]
    temporary, before = target.with_name(f".{mark}.part"), target.with_name(f".{mark}.old")
    try:
        temporary.mkdir()
        yield temporary
        _refuse(target, overwrite)
        if target.exists():
            os.replace(target, before)
            try:
                os.replace(temporary, target)
            except OSError:
                os.replace(before, target)
                raise
        else:
            os.replace(temporary, target)
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(f"{target} could not be written: {error}. Nothing was changed.") from error
    finally:
        # Not there after a success; where it cannot be removed, the first error is the one to tell.
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)


def _refuse(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise TargetExistsError(f"{target} is a file; expected the name of a folder for the crops")
    inside = {path.name for path in target.iterdir() if not path.name.startswith(".")}
    foreign = sorted(inside - _OWN)
    if foreign:
        raise TargetExistsError(
            f"{target} holds other things ({', '.join(foreign[:3])}{' …' if len(foreign) > 3 else ''}); choose a new "
            "or an empty folder for the crops"
        )
    if inside and not overwrite:
        raise TargetExistsError(f"{target} holds crops already; choose another folder or allow overwriting")


def _write_object(folder: Path, number: int, one: FoundObject) -> dict[str, Any]:
    crop = one.crop
    y0, x0, y1, x1 = crop.box
    name = f"{number:05d}_{_stem(crop.source)}_y{y0}_x{x0}.tif"
    about = {
        "source": crop.source, "frame": crop.frame, "track": crop.track, "y0": y0, "x0": x0, "y1": y1, "x1": x1,
        "area_px": crop.area_px, "score": one.score, "reason": one.reason,
    }  # fmt: skip
    _write_pixels(folder / one.kind / name, crop.pixels, crop.mask, about)
    return {"file": name, "class": one.kind, **about, "score": float(f"{one.score:.5g}")}


def _write_background(folder: Path, number: int, background: Background) -> None:
    path = folder / f"{number:05d}_{_stem(background.source)}.tif"
    _write_pixels(path, background.pixels, ~background.mask, {"source": background.source})


def _write_pixels(path: Path, pixels: NDArray[np.float32], is_shown: NDArray[np.bool_], about: dict[str, Any]) -> None:
    blank = np.array(pixels)
    blank[~is_shown] = np.nan
    write(path, blank, "YX" if pixels.ndim == 2 else "YXC", provenance={_KEY: about})


def _stem(source: str) -> str:
    stem = safe_name(source)
    for suffix in (*_SUFFIXES, ".png", ".ome"):
        stem = stem.removesuffix(suffix)
    return stem[:_SOURCE_LETTERS].rstrip(". ").replace(" ", "_") or "image"


# --- reading ----------------------------------------------------------------------------------


def read_crops(folder: str | os.PathLike[str]) -> CropSet:
    """Read what a semantic filter learns from.

    Raises
    ------
    ImageError, ParameterError
        As for :func:`read_library`; no crop in ``target``.
    """
    crops = read_library(folder, has_discarded=False).crop_set()
    if not crops.target:
        raise ParameterError(
            f"{Path(folder) / 'target'} holds no crop; put at least one object of the kind to keep there"
        )
    return crops


def read_library(folder: str | os.PathLike[str], *, has_discarded: bool = True) -> CropLibrary:
    """Read a library as it lies in its folder: the folder of a file is its class.

    Parameters
    ----------
    folder : path
    has_discarded : bool
        Also what was left out.

    Returns
    -------
    CropLibrary
        Its notes name files that are no crops, files that were moved or are gone, and a table that is missing.

    Raises
    ------
    ParameterError
        No such folder, or no library.
    ImageError
        A file that cannot be read, is no crop, or has no pixel of an object.
    """
    place = Path(folder)
    if not place.is_dir():
        raise ParameterError(f"there is no folder {place}; check the spelling and the current folder")
    if not is_crop_folder(place):
        raise ParameterError(
            f"{place} is no library of crops: it holds neither {TABLE} nor the folders target and unwanted; make one "
            "with 'cellenhance crops'"
        )
    table, notes = _read_table(place / TABLE)
    white = _read_white(place / RECORD, notes)
    objects = []
    for kind in CLASSES:
        if kind != "discarded" or has_discarded:
            objects += [_read_object(path, kind, table, notes) for path in _files(place / kind, notes)]
    backgrounds = tuple(_read_background(path) for path in _files(place / BACKGROUNDS, notes))
    _tell_changes(objects, table, notes, has_discarded)
    found = tuple(each.found for each in objects)
    sources = {one.crop.source for one in found} | {each.source for each in backgrounds}
    return CropLibrary(
        objects=found,
        backgrounds=backgrounds,
        white={name: value for name, value in white.items() if name in sources},
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class _Read:
    name: str
    found: FoundObject


def _files(folder: Path, notes: list[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    other = [path.name for path in inside if path.suffix.lower() not in _SUFFIXES]
    if other:
        notes.append(f"Passed over in {folder.name}, since they are no TIFF files: {_listed(other)}.")
    return [path for path in inside if path.suffix.lower() in _SUFFIXES]


def _read_table(path: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    if not path.is_file():
        return {}, [f"{path.name} is missing; what the files themselves tell was taken."]
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImageError(
            f"{path} is no table of crops ({error}); repair it, or delete it: the files tell the same"
        ) from error
    return {row["file"]: row for row in rows if row.get("file")}, []


def _read_white(path: Path, notes: list[str]) -> dict[str, float]:
    if not path.is_file():
        notes.append(f"{path.name} is missing; the brightness of the images is estimated from their crops.")
        return {}
    try:
        white = load_json(path).get("white", {})
        values = {str(name): float(value) for name, value in white.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ImageError(f"{path} is damaged ({error}); delete it: brightness is then estimated") from error
    return {name: value for name, value in values.items() if math.isfinite(value) and value > 0}


def _read_object(path: Path, kind: CropClass, table: Mapping[str, Mapping[str, str]], notes: list[str]) -> _Read:
    pixels, mask, about = _read_pixels(path)
    row: Mapping[str, Any] = table.get(path.name, {}) if about is None else about
    if not row and mask.all():
        raise ImageError(
            f"{path} is no crop of this library: nothing says where its object ends. Take the file away; crops of "
            "other programs must be TIFF files with NaN outside the object"
        )
    if not mask.any():
        raise ImageError(f"{path} has no pixel of an object (all are NaN); delete it")
    height, width = mask.shape
    try:
        y0, x0 = int(row.get("y0") or 0), int(row.get("x0") or 0)
        crop = ObjectCrop(
            pixels=pixels,
            mask=mask,
            source=str(row.get("source") or path.name),
            box=(y0, x0, y0 + height, x0 + width),
            track=None if row.get("track") in (None, "") else int(row["track"]),
            frame=int(row.get("frame") or 0),
        )
        score = float("nan") if row.get("score") in (None, "") else float(row["score"])
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageError(
            f"what is written about {path} cannot be read ({error}); repair its line in {TABLE}"
        ) from error
    if not row:
        notes.append(f"{path.name} is not in {TABLE}; it was taken for an image of its own.")
    reason = str(row.get("reason") or "moved by hand") if kind == "discarded" else ""
    return _Read(path.name, FoundObject(crop=crop, kind=kind, reason=reason, score=score))


def _read_background(path: Path) -> Background:
    pixels, is_shown, about = _read_pixels(path)
    if not is_shown.any():
        raise ImageError(f"{path} has no pixel without an object (all are NaN); delete it")
    return Background(pixels=pixels, mask=~is_shown, source=str((about or {}).get("source") or path.name))


def _read_pixels(path: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_], dict[str, Any] | None]:
    try:
        file = read(path)
    except ImageError as error:
        raise ImageError(f"{error}. Delete the file, or write the library again") from error
    image = np.asarray(file.image)
    if image.dtype.kind not in "fiu":
        raise ImageError(f"{path} holds {image.dtype} values; expected a crop in grey values")
    if file.axes not in ("YX", "YXC", "CYX"):
        raise ImageError(f"{path} has the axes {file.axes} and shape {image.shape}; expected one plane, grey or colour")
    if file.axes == "CYX":  # saved again by a program that puts channels first
        image = np.moveaxis(image, 0, -1)
    pixels = image.astype(np.float32)
    is_shown = np.isfinite(pixels) if pixels.ndim == 2 else np.isfinite(pixels).all(axis=-1)
    pixels[~is_shown] = 0
    about = (file.provenance or {}).get(_KEY)
    return pixels, np.asarray(is_shown, np.bool_), about if isinstance(about, dict) else None


def _tell_changes(
    objects: list[_Read], table: Mapping[str, Mapping[str, str]], notes: list[str], has_discarded: bool
) -> None:
    known = {name: row.get("class") for name, row in table.items()}
    moved = [each.name for each in objects if known.get(each.name, each.found.kind) != each.found.kind]
    if moved:
        notes.append(f"Of another class than in {TABLE}, since the files were moved: {_listed(moved)}.")
    there = {each.name for each in objects}
    gone = [name for name, kind in known.items() if name not in there and (has_discarded or kind != "discarded")]
    if gone and has_discarded:
        notes.append(f"In {TABLE}, but the files are gone: {_listed(gone)}.")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
