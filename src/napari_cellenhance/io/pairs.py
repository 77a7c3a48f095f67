"""Noisy images together with clean ones of the same places, from files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.io.datasets import read_planes

__all__ = ["PairedSource", "read_pairs"]

_KNOWN = {"name", "noisy", "clean", "license"}


@dataclass(frozen=True, slots=True, eq=False)
class PairedSource:
    """Pairs of one kind, as float32 planes of shape (Y, X) in their own grey values."""

    name: str
    noisy: tuple[NDArray[np.float32], ...]
    clean: tuple[NDArray[np.float32], ...]


def read_pairs(
    path: str | os.PathLike[str], *, data_root: str | os.PathLike[str] | None = None
) -> tuple[PairedSource, ...]:
    """Read pairs.

    Parameters
    ----------
    path : path
        A folder with the folders ``noisy`` and ``clean``, whose files belong together in the order of their names; or
        a JSON file ``{"sources": [{"name", "noisy": {…}, "clean": {…}}]}`` with entries of
        :func:`~napari_cellenhance.io.datasets.read_planes`.
    data_root : path, optional
        Folder that the paths of a JSON file start from; default: its own.

    Raises
    ------
    ImageError
        Nothing there, not readable, another number or size of clean images.
    ParameterError
        A source with unknown settings.
    """
    place = Path(path)
    if place.is_dir():
        return (_source({"name": place.name, "noisy": {"folder": "noisy"}, "clean": {"folder": "clean"}}, place),)
    try:
        entries = list(json.loads(place.read_text(encoding="utf-8"))["sources"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{place} is neither a folder nor a JSON file with 'sources' ({error})") from error
    root = place.parent if data_root is None else Path(data_root)
    return tuple(_source(entry, root) for entry in entries)


def _source(entry: Mapping[str, Any], root: Path) -> PairedSource:
    unknown = sorted(set(entry) - _KNOWN)
    if unknown or not {"noisy", "clean"} <= set(entry):
        raise ParameterError(
            f"the pairs {entry.get('name')!r} have the settings {sorted(entry)}; expected name, noisy, clean, license"
        )
    name = str(entry.get("name", "pairs"))
    noisy, clean = (
        tuple(np.asarray(plane, np.float32) for plane in read_planes(entry[kind], root)[0])
        for kind in ("noisy", "clean")
    )
    if len(noisy) != len(clean) or not noisy:
        raise ImageError(f"“{name}” has {len(noisy)} noisy and {len(clean)} clean images; expected as many of each")
    for i, (one, other) in enumerate(zip(noisy, clean, strict=True)):
        if one.shape != other.shape:
            raise ImageError(f"pair {i} of “{name}” is {one.shape} noisy and {other.shape} clean; expected one size")
    return PairedSource(name, noisy, clean)
