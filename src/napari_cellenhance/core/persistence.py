"""How long objects last while the strength of a filter sweeps from weak to strong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError

__all__ = ["ObjectTable", "PlanePersistence", "follow"]

_MIN_OVERLAP = 0.5
"""An object is there as long as this share of its pixels belongs to objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectTable:
    """One row per object; all columns have the same length.

    Parameters
    ----------
    label : ndarray of int64
        Its number in the labels, from 1.
    persistence : ndarray of float64
        Share of the sweep from its first to its last appearance, above 0 and at most 1.
    born_at : ndarray of float64
        Strength at which it was found first.
    lost_at : ndarray of float64
        First strength from which on it is not found any more; NaN if it lasts to the end.
    merged_at : ndarray of float64
        First strength at which it is one object with another; NaN if never.
    area_px : ndarray of int64
        Pixels when it was found first.
    is_late : ndarray of bool
        Not there at the weakest strength.
    """

    label: NDArray[np.int64]
    persistence: NDArray[np.float64]
    born_at: NDArray[np.float64]
    lost_at: NDArray[np.float64]
    merged_at: NDArray[np.float64]
    area_px: NDArray[np.int64]
    is_late: NDArray[np.bool_]

    def columns(self) -> dict[str, NDArray[Any]]:
        """Name of each column → its values."""
        return {column.name: getattr(self, column.name) for column in fields(self)}

    @classmethod
    def joined(cls, tables: Sequence[ObjectTable]) -> ObjectTable:
        """Tables of several planes as one, numbered on; at least one table."""
        starts = np.cumsum([0, *(len(table.label) for table in tables)])
        columns = {
            name: np.concatenate([table.columns()[name] for table in tables]) for name in tables[0].columns()
        }  # fmt: skip
        columns["label"] = np.concatenate(
            [table.label + start for table, start in zip(tables, starts[:-1], strict=True)]
        )
        return cls(**columns)


@dataclass(frozen=True, slots=True)
class PlanePersistence:
    """Objects of a plane.

    Parameters
    ----------
    labels : ndarray of uint32, shape (Y, X)
        Each object where it was found first; earlier ones lie above later ones.
    table : ObjectTable
    """

    labels: NDArray[np.uint32]
    table: ObjectTable

    def image(self) -> NDArray[np.float32]:
        """Persistence at every pixel of an object, 0 on the ground; shape (Y, X)."""
        return np.concatenate([[0.0], self.table.persistence]).astype(np.float32)[self.labels]


def follow(sweep: Sequence[NDArray[Any]], strengths: Sequence[float]) -> PlanePersistence:
    """Follow the objects of a plane up the strengths.

    Parameters
    ----------
    sweep : sequence of ndarray of int, shape (Y, X)
        Objects found at each strength (0 is ground), weakest first; their numbers mean nothing.
    strengths : sequence of float
        Increasing, one for each.

    Returns
    -------
    PlanePersistence
        Persistence of an object is (n_last − n_first + 1) / n, for n strengths of which it was found at
        number n_first first and at number n_last last. A gap in between is bridged: a threshold that
        wavers for one step does not end an object.

    Raises
    ------
    ParameterError
        No strengths, not increasing, or not one for each picture.

    Notes
    -----
    An object stays the set of pixels on which it was found first. It is still found while at least half of
    them belong to objects: it may grow, shrink to a half, break up, or flow together with others, which
    ``merged_at`` tells. An object is new when no earlier one shares half of the smaller of the two with it.
    """
    levels = np.asarray(strengths, np.float64)
    if len(levels) == 0 or len(levels) != len(sweep) or np.any(np.diff(levels) <= 0):
        raise ParameterError(
            f"{len(sweep)} pictures came with the strengths {list(strengths)}; expected an increasing one for each"
        )
    tracks = _Tracks(sweep[0].shape)
    for step, labels in enumerate(sweep):
        tracks.advance(step, np.asarray(labels).ravel())
    return tracks.result(levels)


class _Tracks:
    """Objects so far: the flat pixels of all of them in one array, and what is known of each."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._pixels = np.zeros(0, np.intp)
        self._owner = np.zeros(0, np.intp)
        self._born = np.zeros(0, np.intp)
        self._last = np.zeros(0, np.intp)
        self._merged = np.zeros(0, np.intp)

    def advance(self, step: int, labels: NDArray[Any]) -> None:
        """Look for every object in the labels of the next strength, then add those that are new."""
        n = len(self._born)
        areas = np.bincount(self._owner, minlength=n)
        here = labels[self._pixels]
        covered = np.bincount(self._owner[here > 0], minlength=n)
        is_found = covered >= _MIN_OVERLAP * areas
        self._last[is_found] = step
        pairs, counts = np.unique(
            np.stack([here[here > 0].astype(np.int64), self._owner[here > 0]]), axis=1, return_counts=True
        )
        sizes = np.bincount(labels.astype(np.int64))
        self._note_merged(step, pairs, counts, areas)
        is_new = sizes > 0
        is_new[0] = False
        known = counts >= _MIN_OVERLAP * np.minimum(sizes[pairs[0]], areas[pairs[1]])
        is_new[pairs[0][known]] = False
        self._add(step, labels, is_new)

    def _note_merged(self, step: int, pairs: NDArray[Any], counts: NDArray[Any], areas: NDArray[Any]) -> None:
        lies_inside = counts >= _MIN_OVERLAP * areas[pairs[1]]
        guests = np.bincount(pairs[0][lies_inside], minlength=int(pairs[0].max(initial=0)) + 1)
        shared = lies_inside & (guests[pairs[0]] > 1)
        owners = pairs[1][shared]
        self._merged[owners[self._merged[owners] < 0]] = step

    def _add(self, step: int, labels: NDArray[Any], is_new: NDArray[np.bool_]) -> None:
        new = np.flatnonzero(is_new)
        number = np.zeros(len(is_new), np.intp)
        number[new] = len(self._born) + np.arange(len(new))
        pixels = np.flatnonzero(is_new[labels])
        self._pixels = np.concatenate([self._pixels, pixels])
        self._owner = np.concatenate([self._owner, number[labels[pixels]]])
        begin = np.full(len(new), step, np.intp)
        self._born, self._last = np.concatenate([self._born, begin]), np.concatenate([self._last, begin])
        self._merged = np.concatenate([self._merged, np.full(len(new), -1, np.intp)])

    def result(self, levels: NDArray[np.float64]) -> PlanePersistence:
        """Objects in the order in which they were found."""
        n = len(levels)
        painted = np.zeros(int(np.prod(self._shape)), np.uint32)
        painted[self._pixels[::-1]] = self._owner[::-1] + 1
        later = np.append(levels, np.nan)
        table = ObjectTable(
            label=np.arange(1, len(self._born) + 1, dtype=np.int64),
            persistence=(self._last - self._born + 1) / n,
            born_at=levels[self._born],
            lost_at=later[self._last + 1],
            merged_at=later[np.where(self._merged < 0, n, self._merged)],
            area_px=np.bincount(self._owner, minlength=len(self._born)).astype(np.int64),
            is_late=self._born > 0,
        )
        return PlanePersistence(painted.reshape(self._shape), table)
