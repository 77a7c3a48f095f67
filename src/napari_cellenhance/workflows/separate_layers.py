"""Layers as a user takes them apart: which model fits, several at once, objects found anew, those nobody annotated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes, from_canonical, to_canonical
from napari_cellenhance.core.candidates import unannotated
from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.postprocess import CleanOptions
from napari_cellenhance.workflows import separate
from napari_cellenhance.workflows.denoise_layers import shown_range
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.separate import (
    Box,
    SeparateRequest,
    SeparateResult,
    boxes_of,
    is_of_movies,
    objects_of,
)
from napari_cellenhance.zoo.cards import ModelCard

__all__ = [
    "Candidate", "FoundObjects", "SeparatedLayer", "box_corners", "candidates", "channels_for", "is_apart", "misfit",
    "n_channels_of", "pixels_of", "scores_sentence", "separate_layers",
]  # fmt: skip


# --- models -------------------------------------------------------------------------------


def n_channels_of(card: ModelCard) -> int:
    """Channels that go through the network together; one that takes a single channel serves every channel."""
    n = card.architecture.get("n_in", 1)
    return n if isinstance(n, int) else 1


def is_apart(card: ModelCard) -> bool:
    """Whether a model returns the ground and the unwanted objects as layers of their own, too."""
    return card.architecture.get("n_out") == 3 * n_channels_of(card)


def channels_for(card: ModelCard, channels: Any) -> Any:
    """Channels of a request: all of them for a model that takes several together, else what was chosen."""
    return "all" if n_channels_of(card) > 1 and not isinstance(channels, tuple) else channels


def misfit(
    card: ModelCard, name: str, axes: str, shape: Sequence[int], channels: Any, *, has_objects: bool = False
) -> str:
    """Why a model cannot take an image apart; empty where it can. Reads no pixel."""
    sides = dict(zip(check_axes(axes, shape), shape, strict=True))
    n_wanted, chosen = n_channels_of(card), channels_for(card, channels)
    n_there = len(chosen) if isinstance(chosen, tuple) else 1
    if chosen == "all":
        n_there = sides.get("C", 1) * sides.get("S", 1)
    if n_wanted > 1 and n_there != n_wanted:
        return (
            f"“{card.title}” was taught with {n_wanted} channels, and “{name}” gives {n_there}; choose another model "
            "or image."
        )
    if has_objects and n_wanted == 1 and n_there > 1:
        return (
            f"Objects are found in one channel. Choose one of “{name}” under “Channels”, or uncheck labels and boxes."
        )
    return ""


def scores_sentence(card: ModelCard) -> str:
    """Say how well a model did on what was kept aside; empty where that is not known."""
    known = {name: value for name, value in card.scores.items() if isinstance(value, (int, float))}
    if "ghost" in known:
        return (
            f"On frames kept aside {100 * known['ghost']:.0f} % of what moves was left in the background, which was "
            f"{100 * known.get('scene_error', 0.0):.1f} % of the range off elsewhere."
        )
    if "correlation" not in known:
        return ""

    def before(name: str, digits: int, factor: float = 1.0, unit: str = "") -> str:
        of_input = known.get(f"of_input_{name}")
        return "" if of_input is None else f" (before: {factor * of_input:.{digits}f}{unit})"

    parts = [f"correlation with the kept objects {known['correlation']:.2f}{before('correlation', 2)}"]
    if "f1" in known:
        parts.append(f"F1 of the objects {known['f1']:.2f}{before('f1', 2)}")
    if "leak" in known:
        parts.append(f"{100 * known['leak']:.0f} % of unwanted objects left{before('leak', 0, 100.0, ' %')}")
    return f"On synthetic images of crops kept aside: {', '.join(parts)}."


# --- results ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoundObjects:
    """Objects of a result, numbered anew in each plane.

    Parameters
    ----------
    labels : ndarray of uint32
        With the axes of the labels of the result.
    boxes : tuple of Box
    options : CleanOptions
        How they were found.
    """

    labels: NDArray[np.uint32]
    boxes: tuple[Box, ...]
    options: CleanOptions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeparatedLayer:
    """A result, and how to show it.

    Parameters
    ----------
    limits : mapping of str to (float, float)
        For each picture the grey values to show as black and white.
    """

    result: SeparateResult
    card: ModelCard
    limits: Mapping[str, tuple[float, float]]

    @property
    def is_movie(self) -> bool:
        """What was learned is a scene without what moves."""
        return is_of_movies(self.card)

    def pictures(self) -> dict[str, NDArray[np.float32]]:
        """Layers that there are: ``target``, ``remainder``; where the model knows them ``background``, ``unwanted``.

        Of a movie ``target`` is what moves, and ``remainder`` the background.
        """
        found = {"target": self.result.target, "remainder": self.result.remainder}
        if not self.is_movie:
            more = {"background": self.result.background, "unwanted": self.result.unwanted}
            found |= {name: layer for name, layer in more.items() if layer is not None}
        return found

    def colours(self, pixels: NDArray[np.float32]) -> NDArray[np.uint8] | None:
        """A picture with a last axis of colours as a viewer shows it, 0 to 255; None for grey values."""
        if "S" not in self.result.axes:
            return None
        source = np.dtype(self.result.provenance["source"]["dtype"])
        white = float(np.iinfo(source).max) if source.kind in "iu" else 1.0
        return np.asarray(np.rint(np.clip(pixels * (255 / white), 0, 255)), np.uint8)

    def find(self, options: CleanOptions) -> FoundObjects | None:
        """Find the objects again in another way, without the network; None where none were asked for."""
        if self.result.wanted is None:
            return None
        axes = self.result.labels_axes
        planes = np.asarray(to_canonical(self.result.wanted, axes))
        labels, boxes = np.zeros(planes.shape, np.uint32), []
        for t, z in np.ndindex(planes.shape[0], planes.shape[2]):
            labels[t, 0, z] = objects_of(planes[t, 0, z], self.card, options)
            boxes += boxes_of(labels[t, 0, z], t, z)
        return FoundObjects(labels=from_canonical(labels, axes), boxes=tuple(boxes), options=options)

    def found_objects(self) -> FoundObjects | None:
        """Objects that came with the result."""
        labels = self.result.labels
        if labels is None:
            return None
        options = CleanOptions(**self.result.provenance["objects"])
        return FoundObjects(labels=labels, boxes=self.result.boxes, options=options)


def separate_layers(
    requests: Sequence[SeparateRequest],
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> list[SeparatedLayer]:
    """Take whole images apart one after the other with the model that they all name; it is loaded once.

    Returns
    -------
    list of SeparatedLayer
        Of the images that were finished, in their order; fewer than asked for after a cancel.

    Raises
    ------
    As :func:`napari_cellenhance.workflows.separate.run`.
    """
    if not requests:
        return []
    first = requests[0]
    on_progress(Progress(n_done=0, n_total=0, message="Loading the model"))
    opened = separate.open_separator(first.model_id, first.device, first.precision, cache_folder=first.cache_folder)
    found: list[SeparatedLayer] = []
    for request in requests:

        def tell(progress: Progress, name: str = request.source_name) -> None:
            on_progress(replace(progress, message=f"Taking “{name}” apart, tile"))

        fitting = replace(request, channels=channels_for(opened.card, request.channels))
        result = separate.apply(fitting, opened, on_progress=tell, is_cancelled=is_cancelled)
        if not result.is_complete:
            break
        one = SeparatedLayer(result=result, card=opened.card, limits={})
        found.append(replace(one, limits={name: _limits(name, pixels) for name, pixels in one.pictures().items()}))
    return found


def _limits(name: str, pixels: NDArray[np.float32]) -> tuple[float, float]:
    low, high = shown_range(pixels)
    return (max(low, 0.0), high) if name == "unwanted" and high > 0 else (low, high)


def box_corners(boxes: Sequence[Box], axes: str, put_back: int | None = None) -> list[NDArray[np.float64]]:
    """Boxes as rectangles of a Shapes layer, in pixels, along the outer edges of the pixels.

    Parameters
    ----------
    axes : str
        Of the labels.
    put_back : int, optional
        Where an axis of length 1 was put into the labels.

    Returns
    -------
    list of ndarray of shape (4, D)

    Examples
    --------
    >>> box_corners([Box(2, 0, 1, 0, 3, 1, 5)], "TYX")[0].tolist()
    [[2.0, -0.5, 2.5], [2.0, -0.5, 4.5], [2.0, 0.5, 4.5], [2.0, 0.5, 2.5]]
    """
    found = []
    for box in boxes:
        top, left, bottom, right = box.y0 - 0.5, box.x0 - 0.5, box.y1 - 0.5, box.x1 - 0.5
        corners = [(top, left), (top, right), (bottom, right), (bottom, left)]
        known = [{"T": float(box.t), "Z": float(box.z), "Y": y, "X": x} for y, x in corners]
        rectangle = np.array([[one[letter] for letter in axes] for one in known])
        found.append(rectangle if put_back is None else np.insert(rectangle, put_back, 0.0, axis=1))
    return found


# --- objects that nobody annotated ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """An object that nobody annotated: plane, label, area, and its pixel nearest to its middle."""

    t: int
    z: int
    label: int
    area_px: int
    y: int
    x: int

    def position(self, axes: str) -> tuple[int, ...]:
        """Index of the pixel in an array of these axes.

        >>> Candidate(3, 0, 1, 50, 7, 8).position("TYX")
        (3, 7, 8)
        """
        known = {"T": self.t, "Z": self.z, "Y": self.y, "X": self.x}
        return tuple(known.get(letter, 0) for letter in axes)


def candidates(
    labels: NDArray[np.integer[Any]],
    axes: str,
    *,
    points: NDArray[np.floating] | None = None,
    annotated: NDArray[Any] | None = None,
) -> tuple[Candidate, ...]:
    """Objects that were found but not annotated, to look through: plane by plane, the largest first.

    Parameters
    ----------
    labels : ndarray of int
        Objects, numbered anew in each plane.
    axes : str
        Of the labels.
    points : ndarray of shape (N, D), optional
        Positions in pixels of the labels; with fewer columns than there are axes they hold for every plane. An object
        that holds one is known.
    annotated : ndarray, shape of the labels, optional
        Not 0 where somebody marked something. An object of which more than a tenth is marked is known.

    Raises
    ------
    ImageError
        Annotations of another shape.
    """
    if annotated is not None and annotated.shape != labels.shape:
        raise ImageError(
            f"the annotations have the shape {annotated.shape}, the objects {labels.shape}; choose a layer of the same "
            "image"
        )
    marks = np.zeros(labels.shape, np.bool_) if annotated is None else np.asarray(annotated) != 0
    share = 0.1
    if points is not None:
        marks, share = _marked(np.asarray(points, np.float64), labels.shape), 0.0
    planes, known = np.asarray(to_canonical(labels, axes)), np.asarray(to_canonical(marks, axes))
    found = []
    for t, z in np.ndindex(planes.shape[0], planes.shape[2]):
        plane = planes[t, 0, z]
        new = unannotated(plane, known[t, 0, z], max_overlap=share, order="area")
        found += [_candidate(plane, t, z, one.label) for one in new]
    return tuple(found)


def _marked(points: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    marks = np.zeros(shape, np.bool_)
    if points.size:
        n = min(points.shape[1], len(shape))
        places = np.rint(points[:, -n:]).astype(int)
        inside = ((places >= 0) & (places < np.array(shape[-n:]))).all(axis=1)
        marks[(..., *places[inside].T)] = True
    return marks


def _candidate(plane: NDArray[Any], t: int, z: int, number: int) -> Candidate:
    pixels = np.argwhere(plane == number)
    middle = pixels[np.argmin(np.square(pixels - pixels.mean(axis=0)).sum(axis=1))]
    return Candidate(t, z, number, len(pixels), int(middle[0]), int(middle[1]))


def pixels_of(labels: NDArray[np.integer[Any]], axes: str, candidate: Candidate) -> tuple[NDArray[np.intp], ...]:
    """Indices of the pixels of an object in the array of the labels, one array for each axis."""
    y_at, x_at = axes.index("Y"), axes.index("X")
    index: list[Any] = list(candidate.position(axes))
    index[y_at] = index[x_at] = slice(None)
    first, second = np.nonzero(np.asarray(labels)[tuple(index)] == candidate.label)
    rows, columns = (first, second) if y_at < x_at else (second, first)
    places = candidate.position(axes)
    return tuple(
        rows if axis == y_at else columns if axis == x_at else np.full(rows.shape, places[axis], np.intp)
        for axis in range(len(axes))
    )
