"""The cheap guards on a bounded sample of a result that is large, or one of many: windows of the image, and of it.

A window is small, and looked at once: memory and time do not grow with the image. What runs the model again is left to
``workflows.guards``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.input_traits import MIN_SIDE_PX, WINDOW_PX, middle
from napari_cellenhance.core.normalize import sanitize
from napari_cellenhance.core.object_support import check_support
from napari_cellenhance.core.residuals import check_residual
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows.input_guards import Finding
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["COMPARED_PX", "N_WINDOWS", "SampleGuards", "keeps_grey", "places", "removes_objects"]

N_WINDOWS = 16
"""Windows of a large image that are looked at."""
COMPARED_PX = 256
"""Side of the middle of a window in which image and result are compared."""
_KEEPS_GREY = ("n2v", "care")
"""Recipes whose results are grey values of the image: what they took away must look like noise."""
_TAKES_AWAY = ("semantic",)
"""Recipes that remove objects on purpose."""
_SPREAD = (0.7548776662466927, 0.5698402909980532)
"""Steps of Roberts' sequence R2: points that are spread evenly over a plane, however many there are."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was found in one window: its place, and objects or places with too much or too little light."""

    place: list[int]
    n_differing: int
    n_textured: int
    n_lost: int
    n_unsupported: int


def places(
    shape: Sequence[int], n_windows: int = N_WINDOWS, side: int = WINDOW_PX
) -> list[tuple[int, int, int, Region]]:
    """Windows that stand for an image: spread evenly over its planes, and over each plane.

    Parameters
    ----------
    shape : (T, C, Z, Y, X)
    n_windows : int
        At most; no window is taken twice.
    side : int
        Of a window, in px; smaller where the plane is.

    Returns
    -------
    list of (t, c, z, Region)

    Examples
    --------
    >>> [(t, c, z, window.y0) for t, c, z, window in places((1, 1, 2, 512, 512))]
    [(0, 0, 0, 0), (0, 0, 1, 0)]
    """
    *leading, height, width = (int(n) for n in shape)
    n_planes, rows, columns = int(np.prod(leading)), -(-height // side), -(-width // side)
    if n_planes * rows * columns <= n_windows:
        chosen = list(itertools.product(range(n_planes), range(rows), range(columns)))
    else:
        steps = np.arange(n_windows)
        shares = ((steps + 0.5) / n_windows, 0.5 + steps * _SPREAD[0], 0.5 + steps * _SPREAD[1])
        numbers = [(share % 1 * n).astype(int) for share, n in zip(shares, (n_planes, rows, columns), strict=True)]
        chosen = list(dict.fromkeys(zip(*(each.tolist() for each in numbers), strict=True)))
    found = []
    for plane, row, column in chosen:
        t, c, z = (int(i) for i in np.unravel_index(plane, leading))
        y, x = (min(i * side, max(0, n - side)) for i, n in ((row, height), (column, width)))
        found.append((t, c, z, Region(y, min(height, y + side), x, min(width, x + side))))
    return found


def keeps_grey(card: ModelCard) -> bool:
    """Whether a model's results are grey values of the image."""
    return card.recipe in _KEEPS_GREY


def removes_objects(card: ModelCard) -> bool:
    """Whether a model takes objects away on purpose, so that there is nothing to judge here."""
    return card.recipe in _TAKES_AWAY


class SampleGuards:
    """Compares windows of an image with what was made of them.

    Parameters
    ----------
    keeps_grey : bool
        The result has the grey values of the image, so that the difference must look like noise; else only objects
        are judged.
    objects_are_dark : bool
        In the image.
    """

    def __init__(self, *, keeps_grey: bool, objects_are_dark: bool = False) -> None:
        self._keeps_grey, self._is_dark = keeps_grey, objects_are_dark
        self._seen: list[_Seen] = []

    def see(self, before: NDArray[Any], after: NDArray[Any], place: Sequence[int]) -> None:
        """Look at the middle 256 px of one window; smaller than 64 px, or of one grey value, it tells nothing.

        Parameters
        ----------
        before, after : ndarray of shape (Y, X)
            The same window of image and result; not modified.
        place : sequence of int
            Where it is, for the record: t, c, z, y, x of its corner.
        """
        part, made = (np.asarray(sanitize(middle(one, COMPARED_PX))[0], np.float64) for one in (before, after))
        if min(part.shape) < MIN_SIDE_PX or part.min() == part.max():
            return
        part = part.max() - part if self._is_dark else part
        n_differing = n_textured = 0
        if self._keeps_grey:
            residual = check_residual(part, made)
            n_textured = residual.count("texture")
            n_differing = residual.count("removed") + residual.count("added")
        support = check_support(part, made)
        self._seen.append(
            _Seen([int(n) for n in place], n_differing, n_textured, support.n_lost, support.n_unsupported)
        )

    def findings(self) -> tuple[Finding, ...]:
        """What is odd; empty where nothing is."""
        return tuple(one for one in (self._residual(), self._objects()) if one is not None)

    def sentences(self) -> list[str]:
        """What is doubted, for the status of a run; what should be looked at is in the record only."""
        return [one.sentence for one in self.findings() if one.level == "doubt"]

    def record(self) -> dict[str, Any]:
        """What was looked at, ready for JSON."""
        findings = self.findings()
        levels = [one.level for one in findings]
        return {
            "n_windows": len(self._seen), "window_px": COMPARED_PX,
            "level": "doubt" if "doubt" in levels else "look" if levels else "fine" if self._seen else "",
            "findings": [one.to_dict() for one in findings],
        }  # fmt: skip

    def _residual(self) -> Finding | None:
        changed = [one for one in self._seen if one.n_differing]
        textured = [one for one in self._seen if one.n_textured]
        if not changed and not textured:
            return None
        flagged = changed or textured
        what = (
            "the difference between image and result is no mere noise: something may have been removed or added"
            if changed
            else "the fine texture differs by more than noise"
        )
        return Finding(
            guard="residual", level="doubt" if changed else "look", sentence=f"{self._of(flagged)} {what}.",
            numbers={
                "n_differing": sum(one.n_differing for one in changed),
                "n_texture": sum(one.n_textured for one in textured), "places": [one.place for one in flagged],
            },
        )  # fmt: skip

    def _objects(self) -> Finding | None:
        flagged = [one for one in self._seen if one.n_lost or one.n_unsupported]
        if not flagged:
            return None
        lost, unsupported = (sum(getattr(one, name) for one in flagged) for name in ("n_lost", "n_unsupported"))
        parts = []
        if unsupported:
            parts.append(
                f"{unsupported} {_objects(unsupported)} of the result {_are(unsupported)} not shown by the image"
            )
        if lost:
            parts.append(f"{lost} clear {_objects(lost)} of the image {_are(lost)} not in the result")
        return Finding(
            guard="objects", level="doubt", sentence=f"{self._of(flagged)} {' and '.join(parts)}.",
            numbers={"n_lost": lost, "n_unsupported": unsupported, "places": [one.place for one in flagged]},
        )  # fmt: skip

    def _of(self, flagged: Sequence[_Seen]) -> str:
        if len(self._seen) == 1:
            return f"In the middle {COMPARED_PX} px,"
        return f"In {len(flagged)} of {len(self._seen)} regions that were looked at,"


def _objects(n: int) -> str:
    return "object" if n == 1 else "objects"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"
