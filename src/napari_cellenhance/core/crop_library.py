"""A library of crops: every object that was found, the class it went to, and why it was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from napari_cellenhance.core.crops import Background, CropSet, ObjectCrop
from napari_cellenhance.core.errors import ParameterError

__all__ = ["CLASSES", "CropClass", "CropLibrary", "FoundObject", "add", "merge"]

CropClass = Literal["target", "unwanted", "discarded"]
CLASSES: tuple[CropClass, ...] = get_args(CropClass)
"""The kind to keep, every other kind, and what neither learns from."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoundObject:
    """An object and what became of it.

    Parameters
    ----------
    crop : ObjectCrop
    kind : "target", "unwanted" or "discarded"
    reason : str
        Why it was discarded, in a few words; empty for what is kept.
    score : float
        How sharp it is (see :mod:`napari_cellenhance.core.focus`); NaN where nobody asked.

    Raises
    ------
    ParameterError
        An unknown class.
    """

    crop: ObjectCrop
    kind: CropClass
    reason: str = ""
    score: float = float("nan")

    def __post_init__(self) -> None:
        if self.kind not in CLASSES:
            raise ParameterError(f"the class of a crop is {self.kind!r}; expected one of {', '.join(CLASSES)}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CropLibrary:
    """All objects found in one or several images.

    Parameters
    ----------
    objects : tuple of FoundObject
    backgrounds : tuple of Background
        The images without their objects.
    white : mapping of str to float
        99th percentile of each source, in its grey values.
    notes : tuple of str
        What a person should know about how it was made.

    Raises
    ------
    ImageError
        Crops in grey values and in colour, side by side.
    ParameterError
        A percentile that is not positive.
    """

    objects: tuple[FoundObject, ...] = ()
    backgrounds: tuple[Background, ...] = ()
    white: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.crop_set()  # the same checks, and the same sentences

    def of(self, kind: CropClass) -> tuple[FoundObject, ...]:
        """Objects of one class."""
        return tuple(one for one in self.objects if one.kind == kind)

    def crop_set(self) -> CropSet:
        """What a semantic filter learns from: without what was discarded."""
        return CropSet(
            target=tuple(one.crop for one in self.of("target")),
            unwanted=tuple(one.crop for one in self.of("unwanted")),
            backgrounds=self.backgrounds,
            white=self.white,
        )

    def moved(self, numbers: Sequence[int], kind: CropClass, reason: str = "") -> CropLibrary:
        """The same with some objects in another class.

        Parameters
        ----------
        numbers : sequence of int
            Positions in ``objects``.
        kind : "target", "unwanted" or "discarded"
        reason : str
            Kept for discarded objects; empty: "thrown out by hand".

        Raises
        ------
        ParameterError
            No object of that number, or an unknown class.
        """
        wrong = [number for number in numbers if not 0 <= number < len(self.objects)]
        if wrong:
            raise ParameterError(f"there is no object {wrong[0]}; the library holds {len(self.objects)}")
        why = (reason or "thrown out by hand") if kind == "discarded" else ""
        objects = list(self.objects)
        for number in numbers:
            objects[number] = replace(objects[number], kind=kind, reason=why)
        return replace(self, objects=tuple(objects))

    def counts(self) -> dict[CropClass, int]:
        """Objects of each class."""
        return {kind: len(self.of(kind)) for kind in CLASSES}

    def discarded_because(self) -> dict[str, int]:
        """How many objects were left out for which reason, the most frequent first."""
        reasons: dict[str, int] = {}
        for one in self.of("discarded"):
            reasons[one.reason] = reasons.get(one.reason, 0) + 1
        return dict(sorted(reasons.items(), key=lambda item: -item[1]))


def merge(libraries: Sequence[CropLibrary]) -> CropLibrary:
    """Put the crops of several images together; a note that several have is told once.

    Raises
    ------
    ImageError
        Libraries in grey values and in colour.
    """
    white: dict[str, float] = {}
    for library in libraries:
        for source, value in library.white.items():
            # Frames of one movie share a source, and so a scale: that of the brightest.
            white[source] = max(value, white.get(source, value))
    return CropLibrary(
        objects=tuple(one for library in libraries for one in library.objects),
        backgrounds=tuple(one for library in libraries for one in library.backgrounds),
        white=white,
        notes=tuple(dict.fromkeys(note for library in libraries for note in library.notes)),
    )


def add(library: CropLibrary, more: CropLibrary) -> CropLibrary:
    """Add what another look at images found, which may be the same ones.

    Parameters
    ----------
    library, more : CropLibrary
        Of an object with the same source, time point and box, that of ``more`` stays. Where both have one background
        of an image, what either of them calls an object is none of it.

    Raises
    ------
    ImageError
        Libraries in grey values and in colour.
    """
    found_again = {_place_of(one) for one in more.objects}
    kept = tuple(one for one in library.objects if _place_of(one) not in found_again)
    both = merge([replace(library, objects=kept), more])
    return replace(both, backgrounds=tuple(_joined(library.backgrounds, more.backgrounds)))


def _place_of(one: FoundObject) -> tuple[str, int, tuple[int, int, int, int]]:
    return one.crop.source, one.crop.frame, one.crop.box


def _joined(first: Sequence[Background], second: Sequence[Background]) -> list[Background]:
    counts: dict[str, list[Background]] = {}
    for background in (*first, *second):
        counts.setdefault(background.source, []).append(background)
    joined = []
    for found in counts.values():
        is_same_image = len(found) == 2 and found[0] in first and found[1] in second
        if is_same_image and found[0].pixels.shape == found[1].pixels.shape:
            joined += _without_either(*found)
        else:
            joined += found
    return joined


def _without_either(one: Background, other: Background) -> list[Background]:
    mask = one.mask | other.mask
    if mask.all():
        return []
    pixels = np.array(one.pixels)
    pixels[mask] = 0
    return [Background(pixels=pixels, mask=mask, source=one.source)]
