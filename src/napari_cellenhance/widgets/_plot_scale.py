"""Numbers of a plot: ranges, ticks and their texts, and curves thinned to what a screen can show. No Qt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError

__all__ = ["Curve", "Mark", "Scale", "outline", "scale_of", "thinned", "tick_texts", "ticks"]

Style = Literal["line", "solid", "steps", "points"]
FloatArray = NDArray[np.float64]

_LEAST_SHARE = 1e-9


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve of a plot.

    Parameters
    ----------
    name : str
        For the legend; a curve without a name, such as dots on another one, is drawn only.
    x, y : ndarray of shape (N,)
        Not finite values leave a gap. With ``steps`` x may have one value more than y: the edges of bins.
    colour : str or None
        ``#rrggbb`` or a name; None takes the next one of a palette that colour-blind people can tell apart.
    style : "line", "solid", "steps" or "points"
        Lines and steps of a plot differ by their dashes too; solid ones, for curves that go up and down a lot, do not.

    Raises
    ------
    ParameterError
        x and y do not fit together, or an unknown style.
    """

    name: str
    x: NDArray[Any]
    y: NDArray[Any]
    colour: str | None = None
    style: Style = "line"

    def __post_init__(self) -> None:
        if self.style not in get_args(Style):
            raise ParameterError(f"style of a curve is {self.style!r}; expected one of {', '.join(get_args(Style))}")
        n_more = len(self.x) - len(self.y) if np.ndim(self.x) == np.ndim(self.y) == 1 else -1
        if n_more != 0 and not (n_more == 1 and self.style == "steps"):
            raise ParameterError(
                f"curve “{self.name}” has x of shape {np.shape(self.x)} and y of shape {np.shape(self.y)}; "
                "expected two rows of one length (for steps, x may hold one edge more)"
            )


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at ``x`` with a short text, such as "best 0.12"; colour None takes that of the text."""

    x: float
    text: str = ""
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of values along one axis, linear or logarithmic."""

    low: float
    high: float
    is_log: bool = False

    def share(self, values: Any) -> FloatArray:
        """Position from 0 (low) to 1 (high); NaN where a value cannot be shown."""
        numbers = np.asarray(values, np.float64)
        low, high = self.low, self.high
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.is_log:
                numbers = np.where(numbers > 0, np.log10(numbers), np.nan)
                low, high = np.log10(low), np.log10(high)
            shares = (numbers - low) / (high - low)
        return np.where(np.isfinite(shares), shares, np.nan)


def scale_of(values: Iterable[NDArray[Any]], *, is_log: bool = False, has_zero: bool = False) -> Scale | None:
    """Range that shows all finite values; None where there is none.

    Parameters
    ----------
    values : iterable of ndarray
    is_log : bool
        Only values above 0 count, and the ends are powers of ten.
    has_zero : bool
        Begin at 0 where no value is below (counts, shares); no effect with ``is_log``.
    """
    rows = [np.asarray(row, np.float64).ravel() for row in values]
    numbers = np.concatenate(rows) if rows else np.zeros(0)
    numbers = numbers[np.isfinite(numbers)]
    if is_log:
        numbers = numbers[numbers > 0]
    if not numbers.size:
        return None
    low, high = float(numbers.min()), float(numbers.max())
    if is_log:
        # A value that is 300 powers of ten below the rest would flatten all others.
        low, high = 10.0 ** np.floor(np.log10(max(low, high * 1e-12))), 10.0 ** np.ceil(np.log10(high))
        return Scale(float(low), float(high if high > low else low * 10), is_log=True)
    if has_zero and low >= 0:
        low = 0.0
    if high - low <= _LEAST_SHARE * max(abs(low), abs(high)):
        pad = 0.5 * abs(high) or 0.5
        return Scale(low - (0.0 if has_zero and low == 0 else pad), high + pad)
    return Scale(low, high)


def ticks(scale: Scale, n_wanted: int = 5) -> list[float]:
    """Round values inside a scale: steps of 1, 2 or 5 times a power of ten; powers of ten on a log scale.

    >>> ticks(Scale(0.0, 1.0), 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(Scale(1.0, 1000.0, is_log=True), 5)
    [1.0, 10.0, 100.0, 1000.0]
    """
    if scale.is_log:
        first, last = round(np.log10(scale.low)), round(np.log10(scale.high))
        every = max(1, -(-(last - first) // max(1, n_wanted)))
        return [float(10.0**power) for power in range(first, last + 1, every)]
    rough = (scale.high - scale.low) / max(1, n_wanted)
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.8 * rough)
    first = np.ceil(scale.low / step - 1e-9)
    last = np.floor(scale.high / step + 1e-9)
    digits = max(0, -int(np.floor(np.log10(step)))) + 1
    return [float(round(n * step, digits)) + 0.0 for n in np.arange(first, last + 1)]


def tick_texts(values: list[float]) -> list[str]:
    """Write ticks with as many digits as tell them apart.

    >>> tick_texts([0.0, 0.25, 0.5])
    ['0', '0.25', '0.5']
    >>> tick_texts([0.0, 20000.0])
    ['0', '20 000']
    """

    def text(value: float) -> str:
        if value != 0 and not 1e-3 <= abs(value) < 1e6:
            mantissa, _, exponent = f"{value:.4g}".partition("e")
            return f"{mantissa}e{int(exponent)}" if exponent else mantissa
        if abs(value) >= 10000:
            return f"{value:,.0f}".replace(",", " ")  # a thin gap, not a comma that some read as a point
        return f"{value:.6g}"

    return [text(value) for value in values]


def outline(curve: Curve) -> tuple[FloatArray, FloatArray]:
    """Corners of the line to draw; a step holds its value up to the next x.

    >>> x, y = outline(Curve("n", np.array([0, 1, 2]), np.array([5, 7]), style="steps"))
    >>> x.tolist(), y.tolist()
    ([0.0, 1.0, 1.0, 2.0], [5.0, 5.0, 7.0, 7.0])
    """
    x, y = np.asarray(curve.x, np.float64), np.asarray(curve.y, np.float64)
    if curve.style != "steps":
        return x, y
    if len(x) == len(y):
        return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]
    return np.repeat(x, 2)[1:-1], np.repeat(y, 2)


def thinned(x: FloatArray, y: FloatArray, n_columns: int) -> tuple[FloatArray, FloatArray]:
    """Keep the first, lowest, highest and last point of each of ``n_columns`` runs: the same line on a screen.

    A hundred thousand updates of a training are drawn in no time, and no peak is lost.
    """
    n = len(x)
    if n_columns < 1 or n <= 4 * n_columns:
        return x, y
    kept: list[NDArray[np.int64]] = []
    for run in np.array_split(np.arange(n), n_columns):
        part = y[run]
        finite = np.isfinite(part)
        if not finite.any():
            kept.append(run[:1])
            continue
        low = run[int(np.argmin(np.where(finite, part, np.inf)))]
        high = run[int(np.argmax(np.where(finite, part, -np.inf)))]
        kept.append(np.unique([run[0], low, high, run[-1]]))
    chosen = np.concatenate(kept)
    return x[chosen], y[chosen]
