"""Propose a strength from the image itself; see ``core.suggestion`` for the criterion."""

from __future__ import annotations

import dataclasses

import numpy as np

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.recipes.protocol import StrengthInfo
from napari_cellenhance.core.suggestion import choose
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows import _planes
from napari_cellenhance.workflows.catalog import FilterSpec, OpenedFilter, describe
from napari_cellenhance.workflows.preview import PreviewRequest, PreviewSession
from napari_cellenhance.workflows.progress import IsCancelled, never_cancelled
from napari_cellenhance.workflows.requests import EnhanceRequest, StrengthSuggestion

__all__ = ["MAX_SIDE_PX", "N_STRENGTHS", "can_suggest", "candidates", "suggest", "suggest_on_view"]

N_STRENGTHS = 10
"""Strengths that are tried, evenly spaced up to the end of the slider."""

MAX_SIDE_PX = 768
"""Of a larger plane its middle is looked at."""


def can_suggest(spec: FilterSpec) -> bool:
    """Whether a filter's strength can be proposed: that of the networks; a σ or a γ has no such meaning."""
    return spec.card is not None


def candidates(info: StrengthInfo) -> tuple[float, ...]:
    """Strengths to try.

    >>> candidates(StrengthInfo(label="", help="", default=5, maximum=10))[:3]
    (1.0, 2.0, 3.0)
    """
    low = max(info.minimum, info.maximum / N_STRENGTHS)
    return tuple(float(w) for w in np.linspace(low, info.maximum, N_STRENGTHS))


def suggest(
    request: EnhanceRequest, opened: OpenedFilter | None = None, *, is_cancelled: IsCancelled = never_cancelled
) -> StrengthSuggestion:
    """Propose a strength for an image: on the middle plane of its first channel, or the middle of a large plane.

    Parameters
    ----------
    request : EnhanceRequest
        Its strength is not looked at.
    opened : OpenedFilter, optional
        The filter, if it is loaded already.

    Raises
    ------
    ParameterError
        A filter whose strength cannot be proposed.
    core.inference.Cancelled
        ``is_cancelled`` said so.
    CellEnhanceError
        As in ``workflows.enhance.run``.
    """
    image = _planes.open_image(request)
    n_t, _, n_z, height, width = image.shape
    window = request.region or Region(0, height, 0, width)
    still = dataclasses.replace(request, strength=None, strength_map=None, region=_middle(window))
    position = {axis: n // 2 for axis, n in (("T", n_t), ("Z", n_z)) if axis in request.axes.upper()}
    session = PreviewSession()
    if opened is not None:
        session.lend(still, opened)
    return suggest_on_view(session, PreviewRequest(enhance=still, position=position), is_cancelled=is_cancelled)


def suggest_on_view(
    session: PreviewSession, preview: PreviewRequest, *, is_cancelled: IsCancelled = never_cancelled
) -> StrengthSuggestion:
    """Propose a strength for what is in view. With features that the session holds already, it only decodes.

    Raises
    ------
    ParameterError, core.inference.Cancelled, CellEnhanceError
        As for :func:`suggest`.
    """
    spec = describe(preview.enhance.filter_id)
    if not can_suggest(spec):
        raise ParameterError(
            f"a strength can be suggested for networks only, not for {spec.info.title!r}; set it by hand, or choose "
            "a network"
        )
    strengths = candidates(spec.info.strength)
    still = dataclasses.replace(preview.enhance, strength=None, strength_map=None)
    images = session.sweep(dataclasses.replace(preview, enhance=still), strengths, is_cancelled=is_cancelled)
    found = choose(images, strengths, spec.info.strength.default)
    return StrengthSuggestion(strength=found.strength, reason=found.reason, strengths=strengths, scores=found.scores)


def _middle(window: Region) -> Region:
    height, width = (min(MAX_SIDE_PX, side) for side in window.shape)
    y0, x0 = window.y0 + (window.shape[0] - height) // 2, window.x0 + (window.shape[1] - width) // 2
    return Region(y0, y0 + height, x0, x0 + width)
