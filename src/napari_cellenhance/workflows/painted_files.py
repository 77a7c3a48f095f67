"""Labelled files as painted images: label images of data sets, masks, or painted labels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.workflows.painted_layers import normalised

if TYPE_CHECKING:
    from napari_cellenhance.core.painted import PaintedImage
    from napari_cellenhance.io.labelled import LabelledImage

__all__ = ["read_painted_files"]

_OWN = ("painted_as", "has_border", "repeat")
"""Settings of a source that say how its labels are meant; the others are those of ``io.labelled``."""


@dataclass(frozen=True, slots=True)
class _Meaning:
    painted_as: str
    has_border: bool
    repeat: int


def read_painted_files(
    path: str | os.PathLike[str], *, data_root: str | os.PathLike[str] | None = None
) -> tuple[list[PaintedImage], list[int]]:
    """Read images with labels, and how often each counts in a training.

    Parameters
    ----------
    path : path
        A JSON file ``{"sources": [...]}`` or a folder, as ``io.labelled`` reads them. A source may also say
        ``painted_as`` ("instances", the default for label images: each object has its own number and 0 is background;
        "classes": 0 is not painted, 1 background, 2 and above classes; masks are background and class 2),
        ``has_border`` (of instances: a class 3 between objects and around them) and ``repeat`` (a whole number: how
        often its images count).
    data_root : path, optional
        Folder that the paths of a JSON file start from; default: the folder of the file.

    Raises
    ------
    ImageError
        Nothing there, not readable, points instead of labels, or a truth that does not fit its image.
    ParameterError
        A source with unknown settings.
    """
    from napari_cellenhance.io.labelled import read_labelled, read_labelled_source
    from napari_cellenhance.io.source_lists import check_settings, read_source_list

    place = Path(path)
    if place.is_dir():
        meaning = _Meaning("instances", False, 1)
        return _all([(image, meaning) for image in read_labelled(place, data_root=data_root)])
    root = place.parent if data_root is None else Path(data_root)
    found = []
    for source in read_source_list(place):
        settings = {name: value for name, value in source.items() if name not in _OWN}
        check_settings({name: value for name, value in source.items() if name in _OWN}, _OWN)
        meaning = _meaning(source)
        found += [(image, meaning) for image in read_labelled_source(settings, root)]
    return _all(found)


def _meaning(source: Mapping[str, Any]) -> _Meaning:
    painted_as = str(source.get("painted_as", "instances"))
    return _Meaning(painted_as, bool(source.get("has_border", False)), source.get("repeat", 1))


def _all(found: list[tuple[LabelledImage, _Meaning]]) -> tuple[list[PaintedImage], list[int]]:
    from napari_cellenhance.core.painted import PaintedImage

    images, weights = [], []
    for labelled, meaning in found:
        image = normalised(labelled.image)
        if image.min() == image.max():
            continue  # a flat plane teaches nothing
        images.append(PaintedImage(image, _classes(labelled, meaning), f"{labelled.source}, {labelled.name}"))
        weights.append(meaning.repeat)
    return images, weights


def _classes(labelled: LabelledImage, meaning: _Meaning) -> Any:
    from napari_cellenhance.core.painted import BACKGROUND, OBJECT, from_instances

    if labelled.labels is not None and meaning.painted_as == "classes":
        return labelled.labels
    if labelled.labels is not None:
        return from_instances(labelled.labels, has_border=meaning.has_border)
    if labelled.mask is None:
        raise ImageError(f"{labelled.source}, {labelled.name} has points only; expected labels or a mask")
    return np.where(labelled.mask, OBJECT, BACKGROUND).astype(np.int32)
