"""The difference of two images: after less before, as they are or after the best scaling and shift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.workflows._measured import MeasuredImage, OpenedLayer, check_alike, open_layer
from napari_cellenhance.workflows.measure import describe_layers
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

__all__ = ["Difference", "DifferenceRequest", "How", "formula", "limit_of", "subtract"]

How = Literal["fitted", "plain"]
_LIMIT_PERCENTILE = 99.5
_SAMPLED_PLANES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceRequest:
    """Two images of one shape, and how to subtract.

    Parameters
    ----------
    before, after : MeasuredImage
        Without colours; what ``at`` says is fitted, the difference is of all planes.
    how : "fitted" or "plain"
        α · after + β − before with the α and β of least squared difference, in grey values of ``before``; or
        after − before.
    """

    before: MeasuredImage
    after: MeasuredImage
    how: How = "fitted"

    def __post_init__(self) -> None:
        if self.how not in ("fitted", "plain"):
            raise ParameterError(f"the difference is {self.how!r}; expected fitted or plain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference image.

    Parameters
    ----------
    image : ndarray or dask array of float32
        Of the shape of both; lazy where one of them is.
    slope, offset : float
        α and β; 1 and 0 of a plain difference.
    limit : float
        99.5 % of the pixels (of evenly spaced planes) lie within ± this.
    formula : str
        In words.
    record : dict
        JSON-ready.
    """

    image: Any
    slope: float
    offset: float
    limit: float
    formula: str
    record: dict[str, Any]


def formula(slope: float, offset: float, how: How) -> str:
    """The difference in words.

    >>> formula(2.0, -1.5, "fitted"), formula(1.0, 0.0, "plain")
    ('2 × after − 1.5 − before', 'after − before')
    """
    if how == "plain":
        return "after − before"
    sign = "−" if offset < 0 else "+"
    return f"{slope:.4g} × after {sign} {abs(offset):.4g} − before"


def limit_of(*planes: Any) -> float:
    """Value that 99.5 % of the finite pixels do not exceed; 1 where there is no difference."""
    sizes = [np.abs(np.asarray(plane, np.float64)).ravel() for plane in planes]
    values = np.concatenate(sizes)
    values = values[np.isfinite(values)]
    if not values.size:
        return 1.0
    limit = float(np.percentile(values, _LIMIT_PERCENTILE)) or float(values.max())
    return limit if limit > 0 else 1.0


def subtract(
    request: DifferenceRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> Difference | None:
    """Subtract; None when cancelled.

    Raises
    ------
    AxesError, ImageError
        Colours, or shapes that differ.
    """
    _refuse_unlike(request.before, request.after)
    before, after = open_layer(request.before), open_layer(request.after)
    check_alike(before, [after])
    slope, offset = 1.0, 0.0
    n = len(before.planes)
    sampled = set(np.linspace(0, n - 1, min(n, _SAMPLED_PLANES)).round().astype(int).tolist())
    if request.how == "fitted":
        fitted = _fit(before, after, on_progress, is_cancelled)
        if fitted is None:
            return None
        slope, offset = fitted
    parts = []
    for number in sorted(sampled):
        if is_cancelled():
            return None
        parts.append(slope * after.stored(number).astype(np.float64) + offset - before.stored(number))
    limit = limit_of(*parts)
    on_progress(Progress(n_done=n, n_total=n, message="Subtracted"))
    return Difference(
        image=_lazily(request, slope, offset), slope=slope, offset=offset, limit=limit,
        formula=formula(slope, offset, request.how),
        record={
            "step": "difference", "layer": "difference", "formula": formula(slope, offset, request.how),
            "how": request.how, "slope": slope, "offset": offset,
            **describe_layers(before=request.before, after=request.after),
        },
    )  # fmt: skip


def _refuse_unlike(before: MeasuredImage, after: MeasuredImage) -> None:
    for image in (before, after):
        if "S" in image.axes.upper():
            raise ImageError(
                f"“{image.name}” is a colour image; a difference is of grey values. Split its channels, or enhance "
                "its grey values"
            )
    if tuple(before.image.shape) != tuple(after.image.shape):
        raise ImageError(
            f"“{after.name}” has the shape {tuple(after.image.shape)}, “{before.name}” {tuple(before.image.shape)}; "
            "expected the same. Choose a result of the whole layer"
        )


def _fit(
    before: OpenedLayer, after: OpenedLayer, on_progress: OnProgress, is_cancelled: IsCancelled
) -> tuple[float, float] | None:
    from napari_cellenhance.core.affine_fit import PairMoments

    moments = PairMoments()
    n = len(before.planes)
    for number in range(n):
        if is_cancelled():
            return None
        on_progress(Progress(n_done=number, n_total=n, message="Fitting the grey values"))
        x, y = after.stored(number).astype(np.float64), before.stored(number).astype(np.float64)
        is_good = np.isfinite(x) & np.isfinite(y)
        moments.add(x[is_good], y[is_good])
    return moments.slope, moments.offset


def _lazily(request: DifferenceRequest, slope: float, offset: float) -> Any:
    before, after = request.before.image, request.after.image
    if isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
        return (slope * after.astype(np.float64) + offset - before).astype(np.float32)
    from dask.array import asarray

    first, second = asarray(before), asarray(after)  # type: ignore[no-untyped-call]
    return (slope * second.astype(np.float64) + offset - first.rechunk(second.chunks)).astype(np.float32)
