"""Objects cut out of images, each with its class: from labels, a threshold, points or boxes.

Every way ends in a :class:`~napari_cellenhance.core.crop_library.CropLibrary` of one plane. What is left out is in it
too, with its reason. Images have the shape (Y, X), or (Y, X, C) for colours, and keep their grey values.

References
----------
.. [1] Javer & Rittscher 2019, arXiv 1909.00691, and its published scripts: microglia (local threshold), co-culture
   (points), astrocytes (boxes). Where both are silent the choice is ours, and said.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_cellenhance.core.crop_cutting import ANY_NEIGHBOUR, Fate, Scene, local_mask, number_parts, to_levels
from napari_cellenhance.core.crop_library import CropLibrary, FoundObject
from napari_cellenhance.core.crop_options import (
    BoxOptions,
    CutOptions,
    GroundOptions,
    PointOptions,
    SegmentOptions,
)
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.painted import BACKGROUND, NOT_PAINTED
from napari_cellenhance.core.postprocess import ellipse, threshold

__all__ = [
    "GROUND", "MIXED", "NO_CLASS", "NO_POINT", "OFF_MIDDLE", "TOO_SHORT", "from_boxes", "from_labels", "from_painted",
    "from_points", "from_segmentation",
]  # fmt: skip

MIXED, NO_POINT, NO_CLASS = "points of several classes", "no point on it", "no class painted on it"
OFF_MIDDLE, TOO_SHORT, GROUND = "off the middle of its box", "short against its box", "ground of its box"
_BOX_GROUND = GroundOptions(window_px=255, offset=25.0, is_log=False)

Labels = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]


def from_labels(
    image: NDArray[Any],
    labels: Labels,
    *,
    source: str,
    frame: int = 0,
    target: Collection[int] = (),
    classes: Labels | Mapping[int, int] | None = None,
    is_complete: bool = True,
    is_tracked: bool = False,
    options: CutOptions | None = None,
) -> CropLibrary:
    """Cut out labelled objects.

    Parameters
    ----------
    image : ndarray of shape (Y, X) or (Y, X, C)
    labels : ndarray of int, shape (Y, X)
        0 is ground, every object has its own number.
    source : str
        Name of the image.
    frame : int
        Time point.
    target : collection of int
        Classes to keep; the others are unwanted. Without ``classes`` every object is a target.
    classes : ndarray of int, shape (Y, X), or mapping of int to int, optional
        Classes painted on the objects (0: none; of several, that with the most pixels), or class of each number.
    is_complete : bool
        Every object is labelled. False: what is brighter than its surroundings is no background either.
    is_tracked : bool
        Numbers follow objects through time.
    options : CutOptions, optional
        Sizes, background, focus score; :func:`~napari_cellenhance.core.focus.sort_by_focus` does something with it.

    Raises
    ------
    ImageError
        Labels that are no whole numbers, negative, or of another shape.
    ParameterError
        Classes without a target.
    """
    chosen = options or CutOptions()
    scene = Scene.of(image, source, frame, chosen)
    ids = _checked(labels, scene.plane.shape, f"the labels of {source}")
    if classes is not None and not target:
        raise ParameterError("classes were given, but none of them is the target; name at least one")
    numbers, dense = np.unique(np.concatenate([[0], ids.ravel()]), return_inverse=True)
    dense = dense[1:].reshape(ids.shape)
    kinds = None if classes is None else _classes_of(dense, numbers, classes, f"the classes of {source}")
    fates = {}
    for i in range(1, len(numbers)):
        track = int(numbers[i]) if is_tracked else None
        if kinds is not None and kinds[i] == 0:
            fates[i] = Fate("discarded", NO_CLASS, track)
        else:
            fates[i] = Fate("target" if kinds is None or kinds[i] in target else "unwanted", track=track)
    ground = chosen.ground or GroundOptions()
    return scene.gathered(
        scene.cut_all(dense, fates), dense > 0, replace(ground, window_px=0) if is_complete else ground
    )


def _classes_of(
    dense: NDArray[np.int64], numbers: NDArray[Any], classes: Labels | Mapping[int, int], what: str
) -> NDArray[np.int64]:
    """Class of every object, at its place; 0: none."""
    n = len(numbers)
    if isinstance(classes, Mapping):
        return np.array([0, *(int(classes.get(int(number), 0)) for number in numbers[1:])], np.int64)
    values, place = np.unique(_checked(classes, dense.shape, what), return_inverse=True)
    counts = np.bincount(dense.ravel() * len(values) + place.ravel(), minlength=n * len(values))
    table = counts.reshape(n, len(values))
    table[:, values == 0] = 0
    return np.where(table.any(axis=1), values[table.argmax(axis=1)], 0)


def from_painted(
    image: NDArray[Any],
    painted: Labels,
    *,
    source: str,
    frame: int = 0,
    target: Collection[int],
    options: CutOptions | None = None,
) -> CropLibrary:
    """Cut out painted objects: connected pixels of one class, which may touch at corners.

    Parameters
    ----------
    image : ndarray of shape (Y, X) or (Y, X, C)
    painted : ndarray of int, shape (Y, X)
        0 not painted, 1 background, 2 and above classes (:mod:`napari_cellenhance.core.painted`).
    source, frame, options
        As for :func:`from_labels`. What is not painted is background unless it is brighter than its surroundings;
        what is painted as background is background.
    target : collection of int
        Classes to keep, from 2.

    Raises
    ------
    ImageError
        Labels that are no whole numbers, negative, or of another shape.
    ParameterError
        No class, or the background, as the target.
    """
    from scipy.ndimage import label

    chosen = options or CutOptions()
    scene = Scene.of(image, source, frame, chosen)
    ids = _checked(painted, scene.plane.shape, f"the paint of {source}")
    if not target or min(target) <= BACKGROUND:
        raise ParameterError(
            f"the target is {sorted(target)}; expected at least one painted class from {BACKGROUND + 1} (1 is "
            "background)"
        )
    objects, fates = np.zeros(ids.shape, np.int64), dict[int, Fate]()
    for value in np.unique(ids[ids > BACKGROUND]):
        parts, n_parts = label(ids == value, structure=ANY_NEIGHBOUR)
        so_far = len(fates)
        objects[parts > 0] = parts[parts > 0] + so_far
        fate = Fate("target" if value in target else "unwanted")
        fates |= dict.fromkeys(range(so_far + 1, so_far + n_parts + 1), fate)
    notes = [] if (ids != NOT_PAINTED).any() else [f"Nothing is painted on {source}."]
    return scene.gathered(
        scene.cut_all(objects, fates),
        objects > 0,
        chosen.ground or GroundOptions(),
        is_ground=ids == BACKGROUND,
        notes=notes,
    )


def _checked(labels: Any, shape: tuple[int, ...], what: str) -> NDArray[np.int64]:
    ids = np.asarray(labels)
    if ids.shape != shape:
        raise ImageError(f"{what} have shape {ids.shape}, the image {shape}; expected the same plane")
    if ids.dtype != np.bool_ and not np.issubdtype(ids.dtype, np.integer):
        raise ImageError(f"{what} are of type {ids.dtype}; expected whole numbers, as in a labels layer")
    if ids.size and int(ids.min()) < 0:
        raise ImageError(f"{what} have negative values; expected 0 for the ground and 1, 2, … for objects")
    return ids.astype(np.int64)


# --- by grey values ---------------------------------------------------------------------------


def from_segmentation(
    image: NDArray[Any],
    how: SegmentOptions | None = None,
    *,
    source: str,
    frame: int = 0,
    as_class: Literal["target", "unwanted"] = "target",
    options: CutOptions | None = None,
) -> CropLibrary:
    """Cut out what a threshold finds: all of one class, for images of one kind of object, or to be sorted by focus.

    Parameters
    ----------
    image : ndarray of shape (Y, X) or (Y, X, C)
        Objects bright, or dark if ``options`` say so.
    how : SegmentOptions, optional
    source, frame, options
        As for :func:`from_labels`.
    as_class : "target" or "unwanted"

    Raises
    ------
    ImageError
        No plane, or values that are no numbers.
    """
    from scipy.ndimage import binary_fill_holes

    way, chosen = how or SegmentOptions(), options or CutOptions()
    scene = Scene.of(image, source, frame, chosen)
    mask = _opened(_bright(scene.plane, way), 3, way.n_openings)
    if way.is_filled:
        mask = binary_fill_holes(mask)
    parts, n_parts = number_parts(mask)
    found = scene.cut_all(parts, dict.fromkeys(range(1, n_parts + 1), Fate(as_class)))
    return scene.gathered(found, mask, chosen.ground or GroundOptions())


def _bright(plane: NDArray[np.float32], way: SegmentOptions) -> Mask:
    from scipy.ndimage import gaussian_filter

    values = gaussian_filter(plane, way.sigma_px, mode="nearest") if way.sigma_px else plane
    if way.method == "local":
        return local_mask(values, way.window_px, way.offset, is_log=True)
    if way.method == "log_otsu":
        values = np.log1p(np.clip(values, 0, None))
    return np.asarray(values > threshold(values, "otsu"), np.bool_)


def _opened(mask: Mask, side_px: int, n: int) -> Mask:
    """Erosions by an ellipse, then as many dilations; the edge of the image erodes nothing."""
    from scipy.ndimage import binary_dilation, binary_erosion

    if not n:
        return mask
    eroded = binary_erosion(mask, ellipse(side_px), n, border_value=1)
    return np.asarray(binary_dilation(eroded, ellipse(side_px), n), np.bool_)


# --- from points ------------------------------------------------------------------------------


def from_points(
    image: NDArray[Any],
    points: Mapping[str, ArrayLike],
    how: PointOptions | None = None,
    *,
    source: str,
    frame: int = 0,
    target: str,
    options: CutOptions | None = None,
) -> CropLibrary:
    """Cut out connected bright regions, each of the class of the points on it ([1]_, co-culture).

    Parameters
    ----------
    image : ndarray of shape (Y, X) or (Y, X, C)
        Objects bright, or dark if ``options`` say so.
    points : mapping of str to array-like of shape (N, 2)
        Name of the class → row and column in pixels.
    how : PointOptions, optional
    source, frame, options
        As for :func:`from_labels`.
    target : str
        Class to keep; regions with points of other classes only are unwanted. Regions with both, or without a point,
        are discarded.

    Raises
    ------
    ImageError
        Points that are no pairs of numbers.
    ParameterError
        A target without points.
    """
    from scipy.ndimage import binary_dilation, gaussian_filter

    if target not in points:
        raise ParameterError(f"there are no points of the class {target!r}; there are {', '.join(points) or 'none'}")
    way, chosen = how or PointOptions(), options or CutOptions()
    scene = Scene.of(image, source, frame, chosen)
    levels = to_levels(np.log1p(np.clip(scene.plane, 0, None)))
    if way.sigma_px:
        levels = gaussian_filter(levels, way.sigma_px, mode="nearest")
    mask = _opened(levels > threshold(levels, "otsu"), way.opening_px, way.n_openings)
    if way.n_dilations:
        mask = binary_dilation(mask, ellipse(way.opening_px), way.n_dilations)
    parts, n_parts = number_parts(mask)
    hits = {name: _hit(parts, where, name) for name, where in points.items()}
    has_target, has_other = np.zeros(n_parts + 1, np.bool_), np.zeros(n_parts + 1, np.bool_)
    for name, found in hits.items():
        (has_target if name == target else has_other)[found] = True
    fates = {i: _by_points(bool(has_target[i]), bool(has_other[i])) for i in range(1, n_parts + 1)}
    n_missed, n = sum(int((found == 0).sum()) for found in hits.values()), sum(map(len, hits.values()))
    notes = [f"{n_missed} of {n} points of {source} lie on no object that was found."] if n_missed else []
    return scene.gathered(scene.cut_all(parts, fates), mask, chosen.ground or GroundOptions(), notes=notes)


def _hit(parts: NDArray[np.int64], points: ArrayLike, name: str) -> NDArray[np.int64]:
    """Number of the region under every point; 0: none."""
    where = np.asarray(points, np.float64)
    where = where.reshape(-1, 2) if not where.size else where
    if where.ndim != 2 or where.shape[1] != 2 or not np.isfinite(where).all():
        raise ImageError(
            f"the points of class {name!r} have shape {where.shape}; expected finite (N, 2), row and column"
        )
    at = np.rint(where).astype(np.int64)
    is_inside = ((at >= 0) & (at < parts.shape)).all(axis=1)
    found = np.zeros(len(at), np.int64)
    found[is_inside] = parts[tuple(at[is_inside].T)]
    return found


def _by_points(has_target: bool, has_other: bool) -> Fate:
    if has_target and has_other:
        return Fate("discarded", MIXED)
    if has_target or has_other:
        return Fate("target" if has_target else "unwanted")
    return Fate("discarded", NO_POINT)


# --- from boxes -------------------------------------------------------------------------------


def from_boxes(
    image: NDArray[Any],
    boxes: ArrayLike,
    how: BoxOptions | None = None,
    *,
    source: str,
    frame: int = 0,
    rng: np.random.Generator,
    unwanted_boxes: ArrayLike = (),
    options: CutOptions | None = None,
) -> CropLibrary:
    """Cut out the object in every box, and what lies in random squares outside them as unwanted ([1]_, astrocytes).

    Parameters
    ----------
    image : ndarray of shape (Y, X) or (Y, X, C)
        Objects bright, or dark if ``options`` say so.
    boxes : array-like of shape (N, 4) or (N, K, 2)
        y0, x0, y1, x1 in pixels, half open; or the corners of shapes, of which the bounding box counts.
    how : BoxOptions, optional
    source, frame, options
        As for :func:`from_labels`. Objects at the edge of the image are kept: whoever draws a box there wants them.
    rng : Generator
        Draws the squares.
    unwanted_boxes : array-like, as ``boxes``
        Boxes of other objects, which are unwanted.

    Raises
    ------
    ImageError
        Boxes that are no boxes.
    """
    from scipy.ndimage import median_filter

    way, chosen = how or BoxOptions(), options or CutOptions()
    scene = Scene.of(image, source, frame, replace(chosen, keep=replace(chosen.keep, drop_border=False)))
    smooth = scene.plane
    for _ in range(way.n_medians):
        smooth = median_filter(smooth, 3, mode="nearest")
    wanted, unwanted = (_clipped(given, smooth.shape) for given in (boxes, unwanted_boxes))
    everywhere, outside = np.ones(smooth.shape, np.bool_), np.ones(smooth.shape, np.bool_)
    for y0, x0, y1, x1 in (*wanted, *unwanted):
        outside[y0:y1, x0:x1] = False
    tasks = [(box, Fate("target"), everywhere) for box in wanted]
    tasks += [(box, Fate("unwanted"), everywhere) for box in unwanted]
    n_drawn = len(tasks)
    tasks += [(box, Fate("unwanted"), outside) for box in _squares(smooth.shape, way, rng)]
    found: list[FoundObject] = []
    objects, n_empty = np.zeros(smooth.shape, np.bool_), 0
    for number, ((y0, x0, y1, x1), fate, is_free) in enumerate(tasks):
        place = np.s_[y0:y1, x0:x1]
        part, reason = _object_in(smooth[place], is_free[place], way)
        if part is None:
            n_empty += number < n_drawn
            continue
        objects[place] |= part
        rows, columns = (np.flatnonzero(part.any(axis=axis)) for axis in (1, 0))
        tight = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        found.append(scene.cut(tight, y0 + int(rows[0]), x0 + int(columns[0]),
                               Fate("discarded", reason) if reason else fate))  # fmt: skip
    notes = [f"{n_empty} of {n_drawn} boxes of {source} hold nothing brighter than the rest."] if n_empty else []
    return scene.gathered(found, objects, chosen.ground or _BOX_GROUND, notes=notes)


def _clipped(boxes: ArrayLike, shape: tuple[int, ...]) -> list[Box]:
    given = np.asarray(boxes, np.float64)
    if not given.size:
        return []
    if given.ndim == 3 and given.shape[2] == 2:
        # Corners lie on the outer edges of the pixels, half a pixel beyond their centres.
        given = np.concatenate([given.min(axis=1), given.max(axis=1)], axis=1) + 0.5
    if given.ndim != 2 or given.shape[1] != 4 or not np.isfinite(given).all():
        raise ImageError(f"boxes have shape {given.shape}; expected (N, 4) with y0, x0, y1, x1, or corners (N, K, 2)")
    height, width = shape
    whole = np.rint(given).astype(int).clip(0, [height, width, height, width])
    return [(int(a), int(b), int(c), int(d)) for a, b, c, d in whole if c > a and d > b]


def _squares(shape: tuple[int, ...], way: BoxOptions, rng: np.random.Generator) -> list[Box]:
    found = []
    for _ in range(way.n_squares):
        side = min(int(rng.integers(way.min_square_px, way.max_square_px + 1)), *shape)
        y, x = (int(rng.integers(0, length - side + 1)) for length in shape)
        found.append((y, x, y + side, x + side))
    return found


def _object_in(window: NDArray[np.float32], is_free: Mask, way: BoxOptions) -> tuple[Mask | None, str]:
    """The largest component that lies in the middle and is long enough; else the largest, and what is wrong with it.

    What covers two corners of the box side by side is taken for ground under uneven light, which [1]_ does not ask.
    """
    from scipy.ndimage import binary_fill_holes, center_of_mass, find_objects

    values = window[is_free]
    if not values.size or values.min() == values.max():
        return None, ""
    mask = window > way.threshold_factor * threshold(values, "otsu")
    parts, n_parts = number_parts(binary_fill_holes(mask & is_free) & is_free)
    if not n_parts:
        return None, ""
    sides = np.array(window.shape, np.float64)
    centres = np.array(center_of_mass(parts > 0, parts, np.arange(1, n_parts + 1)))
    offsets = np.linalg.norm((centres + 0.5) / sides - 0.5, axis=1)
    places = [place for place in find_objects(parts) if place is not None]
    lengths = np.array([max(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in places])
    is_long = lengths / sides.max() >= way.min_length
    corners = parts[[0, 0, -1, -1], [0, -1, -1, 0]]
    is_ground = np.isin(np.arange(1, n_parts + 1), corners[corners == np.roll(corners, 1)])
    is_good = (offsets <= way.max_offset) & is_long & ~is_ground
    areas = np.bincount(parts.ravel())[1:]
    best = int(np.where(is_good, areas, -1).argmax() if is_good.any() else areas.argmax())
    reason = ""
    if not is_good[best]:
        reason = GROUND if is_ground[best] else TOO_SHORT if not is_long[best] else OFF_MIDDLE
    return np.asarray(parts == best + 1, np.bool_), reason
