"""Simulated painting: smooth strokes inside the classes of a known segmentation, as a person would draw them.

A stroke begins well inside its class, away from the strokes before it, and goes on without sharp turns where there is
room. It is the paint of a person who knows the truth and is never careless.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.painted import NOT_PAINTED

__all__ = ["AMOUNTS", "StrokeStyle", "simulate_strokes"]

AMOUNTS: Mapping[str, int] = {"few": 2, "some": 6, "many": 18}
"""Strokes for each class."""

_N_STARTS = 24
_N_TRIES = 4
_TURNS = np.deg2rad(np.arange(-40.0, 41.0, 10.0))
_MAX_WINDING = 1.25 * np.pi


@dataclass(frozen=True, slots=True, kw_only=True)
class StrokeStyle:
    """How a stroke looks.

    Parameters
    ----------
    width_px : int
        Of the brush; a stroke is narrower where its class is.
    length_px : float
        Typical length; strokes are half to one and a half times as long where there is room.
    unsteadiness : float
        How much the direction wavers, in radians for each pixel.
    """

    width_px: int = 4
    length_px: float = 40.0
    unsteadiness: float = 0.15

    def __post_init__(self) -> None:
        if self.width_px < 1 or not self.length_px >= 1 or not 0 <= self.unsteadiness <= 1:
            raise ParameterError(
                f"strokes are {self.width_px} px wide and {self.length_px} px long, unsteadiness "
                f"{self.unsteadiness}; expected 1 px or more, and 0 to 1"
            )


@dataclass(frozen=True, slots=True)
class _Ground:
    """Where one class is, and how far each of its pixels is from its edge, in pixels."""

    mask: NDArray[np.bool_]
    clearance: NDArray[np.float64]
    pixels: NDArray[np.int64]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> _Ground:
        from scipy.ndimage import distance_transform_edt

        # Padded: the rim of the image is an edge too, nobody paints beyond it.
        clearance = np.asarray(distance_transform_edt(np.pad(mask, 1)), np.float64)[1:-1, 1:-1]
        return cls(mask, clearance, np.argwhere(mask))


def simulate_strokes(
    classes: NDArray[Any], amount: str | int = "some", *, seed: int = 0, style: StrokeStyle | None = None
) -> NDArray[np.int32]:
    """Paint strokes into every class of a segmentation.

    Parameters
    ----------
    classes : ndarray of int, shape (Y, X)
        Class of each pixel, 1 or more; 0 where it is not known, which is never painted. Not modified.
    amount : "few", "some", "many" or int
        Strokes for each class, see :data:`AMOUNTS`. With the same seed and style the fewer strokes are among the more.
    seed : int
        0 or more; the same seed paints the same.
    style : StrokeStyle, optional

    Returns
    -------
    ndarray of int32, shape (Y, X)
        Painted labels: 0 not painted, else the class of the pixel. Every class that is present has paint. Each stroke
        is connected (8 neighbours), though strokes may cross.

    Raises
    ------
    ImageError
        No plane of whole numbers of 0 or more, or no class at all.
    ParameterError
        An amount that is unknown or below 1.

    Examples
    --------
    >>> simulate_strokes(np.array([[1, 2, 2]]), "few")
    array([[1, 2, 2]], dtype=int32)
    """
    _check(classes)
    n_strokes = AMOUNTS.get(amount) if isinstance(amount, str) else int(amount)
    if n_strokes is None or n_strokes < 1:
        raise ParameterError(f"the amount of paint is {amount!r}; expected {', '.join(AMOUNTS)}, or 1 stroke or more")
    look = style or StrokeStyle()
    painted = np.zeros(classes.shape, np.int32)
    for value in np.unique(classes[classes != NOT_PAINTED]):
        rng = np.random.default_rng([seed, int(value)])
        ground = _Ground.of(classes == value)
        drawn: list[NDArray[np.int64]] = []
        for _ in range(n_strokes):
            drawn.append(_stroke(ground, np.concatenate(drawn) if drawn else None, look, rng))
        for pixels in drawn:
            painted[tuple(pixels.T)] = value
    return painted


def _stroke(
    ground: _Ground, before: NDArray[np.int64] | None, style: StrokeStyle, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Pixels (N, 2) of one stroke: the longest of some tries."""
    wanted = style.length_px * rng.uniform(0.5, 1.5)
    best: NDArray[np.int64] | None = None
    for _ in range(_N_TRIES):
        path = _path(ground, _start(ground, before, style, rng), wanted, style, rng)
        if best is None or len(path) > len(best):
            best = path
        if len(best) >= 0.8 * wanted:
            break
    assert best is not None
    return _brushed(ground.mask, best, style.width_px)


def _start(
    ground: _Ground, before: NDArray[np.int64] | None, style: StrokeStyle, rng: np.random.Generator
) -> NDArray[np.int64]:
    """A pixel well inside the class and far from the paint that is there."""
    chosen = ground.pixels[rng.integers(len(ground.pixels), size=_N_STARTS)]
    worth = np.minimum(ground.clearance[tuple(chosen.T)], style.width_px) / style.width_px
    if before is not None:
        apart = np.sqrt(((chosen[:, None] - before[None, :: max(1, style.width_px)]) ** 2).sum(axis=2).min(axis=1))
        worth = worth + np.minimum(apart / style.length_px, 2.0)
    return np.asarray(chosen[int(np.argmax(worth))], np.int64)


def _path(
    ground: _Ground, start: NDArray[np.int64], wanted: float, style: StrokeStyle, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Pixels of a curve through ``start``, in order; walked to one side, then from ``start`` to the other."""
    angle = _best_angle(ground, start, style, rng)
    ahead = _walk(ground, start, angle, wanted, style, rng)
    back = _walk(ground, start, angle + np.pi, wanted - len(ahead), style, rng)
    return np.asarray([*reversed(back), tuple(start), *ahead], np.int64)


def _best_angle(ground: _Ground, start: NDArray[np.int64], style: StrokeStyle, rng: np.random.Generator) -> float:
    """Direction in which the class goes on longest, of twelve."""
    angles = rng.uniform(0, 2 * np.pi) + np.arange(12) * (np.pi / 6)
    steps = np.arange(1, int(style.length_px) + 1)[:, None, None]
    ends = start + steps * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    is_inside = (_room(ground, ends.reshape(-1, 2), style.width_px) > 0).reshape(len(steps), len(angles))
    reach = np.minimum.accumulate(is_inside, axis=0).sum(axis=0)
    return float(angles[int(np.argmax(reach))])


def _walk(
    ground: _Ground,
    start: NDArray[np.int64],
    angle: float,
    wanted: float,
    style: StrokeStyle,
    rng: np.random.Generator,
) -> list[tuple[int, int]]:
    """Pixels after ``start`` of a walk that keeps its direction where there is room, and never leaves the class."""
    at, found, winding = start.astype(np.float64), [(int(start[0]), int(start[1]))], 0.0
    for _ in range(int(max(0.0, wanted) * 1.5)):
        if len(found) > wanted:
            break
        ways = angle + rng.normal(0.0, style.unsteadiness) + _TURNS
        ends = at + np.stack([np.sin(ways), np.cos(ways)], axis=1)
        room = _room(ground, ends, style.width_px)
        if not (room > 0).any():
            break
        which = int(np.argmax(np.where(room > 0, room - 0.5 * np.abs(_TURNS), -np.inf)))
        winding += float(ways[which] - angle)
        at, angle = ends[which], float(ways[which])
        if abs(winding) > _MAX_WINDING:
            break
        pixel = (round(float(at[0])), round(float(at[1])))
        if pixel != found[-1]:
            found.append(pixel)
    return found[1:]


def _room(ground: _Ground, ends: NDArray[np.float64], width_px: int) -> NDArray[np.float64]:
    """How much of a brush fits at each place, 0…1; 0 outside the class or the image."""
    pixels = np.rint(ends).astype(np.int64)
    is_inside: NDArray[np.bool_] = np.all((pixels >= 0) & (pixels < ground.mask.shape), axis=1)
    pixels = np.where(is_inside[:, None], pixels, 0)
    room = np.minimum(ground.clearance[tuple(pixels.T)] / width_px, 1.0)
    return np.where(is_inside, room, 0.0)


def _brushed(mask: NDArray[np.bool_], path: NDArray[np.int64], width_px: int) -> NDArray[np.int64]:
    """Pixels under a round brush along the path that belong to the class and hang together with the path."""
    from scipy.ndimage import label

    low = np.maximum(path.min(axis=0) - width_px, 0)
    high = np.minimum(path.max(axis=0) + width_px + 1, mask.shape)
    under = np.zeros(high - low, np.bool_)
    for dy, dx in _brush(width_px):
        y, x = path[:, 0] + dy - low[0], path[:, 1] + dx - low[1]
        is_in = (y >= 0) & (y < under.shape[0]) & (x >= 0) & (x < under.shape[1])
        under[y[is_in], x[is_in]] = True
    under &= mask[low[0] : high[0], low[1] : high[1]]
    parts, _ = label(under, np.ones((3, 3)))
    return np.asarray(np.argwhere(parts == parts[tuple(path[0] - low)]) + low, np.int64)


def _brush(width_px: int) -> list[tuple[int, int]]:
    """Offsets under a round brush; one of an even width has its centre between pixels."""
    steps = np.arange(width_px) - width_px // 2
    middle = (width_px - 1) / 2 - width_px // 2
    return [
        (int(dy), int(dx))
        for dy in steps
        for dx in steps
        if (dy - middle) ** 2 + (dx - middle) ** 2 <= (width_px / 2) ** 2 or (dy == 0 and dx == 0)
    ]


def _check(classes: NDArray[Any]) -> None:
    if classes.ndim != 2 or classes.size == 0 or not np.issubdtype(classes.dtype, np.integer):
        raise ImageError(
            f"classes have shape {classes.shape} and type {classes.dtype}; expected a plane of whole numbers"
        )
    if int(classes.min()) < 0 or not classes.any():
        raise ImageError("classes are negative, or there is none; expected 1 (background), 2, …, and 0 for not known")
