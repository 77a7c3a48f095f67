"""Lists of sources in JSON, as trainings and evaluations take them: checked before any image is opened."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.io.json_ready import load_json

__all__ = ["check_settings", "chosen_rows", "read_arrays", "read_index", "read_page", "read_source_list"]

_LARGEST = 2**31 - 1
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_number(value: Any) -> bool:
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and abs(value) <= _LARGEST and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _are_whole(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_whole, value))


def _are_planes(value: Any) -> bool:
    """The name of an array, or for each plane its index in all other dimensions."""
    return _is_text(value) or (isinstance(value, list) and all(map(_are_whole, value)))


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


_Check = tuple[Callable[[Any], bool], str]
_TEXT, _NUMBER = (_is_text, "text"), (_is_number, "a number")
_SETTINGS: dict[str, _Check] = {
    **dict.fromkeys(("name", "index", "npz", "key", "labels", "masks", "folder", "license", "painted_as"), _TEXT),
    **dict.fromkeys(("min_side_px", "max_side_px", "weight", "sigma", "photons", "read_sigma", "range"), _NUMBER),
    **dict.fromkeys(("objects_are_dark", "has_border"), (lambda value: isinstance(value, bool), "true or false")),
    **dict.fromkeys(("where", "noise", "noisy", "clean"), (_is_mapping, "an object {…}")),
    "object_diameter_px": (lambda value: value is None or (_is_number(value) and value > 0), "a number above 0"),
    "seed": (_is_whole, "a whole number"),
    "repeat": (lambda value: _is_whole(value) and value > 0, "a whole number from 1"),
    "pages": (_are_whole, "a list of whole numbers"),
    "planes": (_are_planes, "the name of an array, or a list of lists of whole numbers"),
}  # fmt: skip


def read_source_list(path: str | os.PathLike[str]) -> list[Mapping[str, Any]]:
    """Entries of a JSON file ``{"sources": [{…}, …]}``.

    Raises
    ------
    ImageError
        It cannot be opened, or is no such list.
    """
    place = Path(path)
    try:
        entries = load_json(place)["sources"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{place} is neither a folder of images nor a JSON file with 'sources' ({error})") from error
    if not isinstance(entries, list) or not all(map(_is_mapping, entries)):
        raise ImageError(f"the 'sources' of {place} are no list of objects; expected [{{'name': …, 'folder': …}}, …]")
    return entries


def check_settings(settings: Any, known: Collection[str], what: str = "source") -> None:
    """Refuse settings that are unknown, or values that they cannot have.

    Parameters
    ----------
    settings : mapping
        As it stands in JSON.
    known : collection of str
        Names that this kind of source takes.
    what : str
        What it is called in messages.

    Raises
    ------
    ParameterError
    """
    if not isinstance(settings, Mapping):
        raise ParameterError(f"a {what} is {settings!r:.60}; expected an object with some of {sorted(known)}")
    whose = f"{what} {settings['name']!r:.60}" if "name" in settings else what
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ParameterError(f"the {whose} has unknown settings {unknown}; known are {sorted(known)}")
    for key, value in settings.items():
        is_right, wanted = _SETTINGS[key]
        if not is_right(value):
            raise ParameterError(f"the {whose}: {key} is {value!r:.60}; expected {wanted}")


def read_index(path: Path) -> list[Mapping[str, Any]]:
    """Rows of the index of a data set: files of images and labels, the page in them, and the shape.

    Raises
    ------
    ImageError
        It cannot be opened, is no list, or a row lacks something.
    """
    try:
        rows = load_json(path)
    except (OSError, ValueError) as error:
        raise ImageError(f"{path} could not be read as the index of a data set ({error}); check --data-root") from error
    if not isinstance(rows, list):
        raise ImageError(f"{path} is no index of a data set; expected a list of objects")
    for number, row in enumerate(rows):
        is_whole = isinstance(row, Mapping) and _is_text(row.get("images")) and _is_text(row.get("labels"))
        if not (is_whole and _is_whole(row.get("page")) and _are_whole(row.get("shape")) and len(row["shape"]) >= 2):
            raise ImageError(
                f"row {number} of {path} does not name images, labels, page and shape; expected for example "
                "{'images': 'a.tif', 'labels': 'b.tif', 'page': 0, 'shape': [256, 256]}"
            )
    return rows


def chosen_rows(settings: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of an index that a source wants: by ``where``, ``pages``, ``min_side_px`` and ``max_side_px``."""
    low, high = settings.get("min_side_px", 0), settings.get("max_side_px", 10**9)
    pages, where = settings.get("pages"), settings.get("where", {})
    return [
        row
        for row in rows
        if (pages is None or row["page"] in pages)
        and all(row.get(key) == value for key, value in where.items())
        and low <= max(row["shape"][:2]) <= high
    ]


def read_page(path: Path, page: int) -> NDArray[Any]:
    """One page of a TIFF file.

    Raises
    ------
    ImageError
        No such file or page, or a damaged one.
    """
    import tifffile

    from napari_cellenhance.io._tiff import translated

    try:
        with translated(path):
            return np.asarray(tifffile.imread(path, key=page))
    except OSError as error:
        raise ImageError(f"{path} cannot be opened ({error.strerror or error}); check --data-root") from error


def read_arrays(path: Path, *keys: str) -> tuple[NDArray[Any], ...]:
    """Arrays of an ``.npz`` archive; nothing pickled is opened.

    Raises
    ------
    ImageError
        No such archive, damaged, or without one of the arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return tuple(np.asarray(archive[key]) for key in keys)
    except _DAMAGED as error:
        raise ImageError(f"{path} has no readable arrays {', '.join(map(repr, keys))} ({error})") from error
