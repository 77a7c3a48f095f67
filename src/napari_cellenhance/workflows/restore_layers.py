"""Layers as a user restores them: which model fits, several at once, with residual, and where to doubt the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes, from_canonical, to_canonical
from napari_cellenhance.core.doubt import DEFAULT_SHARE, contrast_of, doubt_labels, share_to_begin
from napari_cellenhance.workflows import restore
from napari_cellenhance.workflows.denoise_layers import shown_range
from napari_cellenhance.workflows.noisy_images import NoisyLayer, window_at
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.workflows.restore import RestoreRequest, RestoreResult
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["DEFAULT_SHARE", "Doubt", "RestoredLayer", "calibration_sentence", "misfit", "residual_of", "restore_layers"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Doubt:
    """Where not to trust a restored image.

    Parameters
    ----------
    labels : ndarray of uint8
        1 where it should not be trusted.
    share : float
        Likely error, as a share of the contrast, above which it is not.
    doubted : float
        Share of the pixels that are 1.
    """

    labels: NDArray[np.uint8]
    share: float
    doubted: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RestoredLayer:
    """A result, and how to show it.

    Parameters
    ----------
    limits : (float, float)
        Grey values of the restored image to show as black and white.
    contrast : ndarray of float32
        See ``core.doubt.contrast_of``.
    scale_limit : float
        Uncertainty to show as the brightest.
    residual : ndarray of float32 or None
        Input less restored image; None where it was not asked for.
    residual_limit : float
        To show as the strongest colour, on either side of 0.
    first_doubt : Doubt or None
        Where not to trust it, at the share that was asked for.
    usually_doubted : float
        Share of the pixels that ``DEFAULT_SHARE`` would doubt.
    """

    result: RestoreResult
    limits: tuple[float, float]
    contrast: NDArray[np.float32]
    scale_limit: float = 1.0
    residual: NDArray[np.float32] | None = None
    residual_limit: float = 1.0
    first_doubt: Doubt | None = None
    usually_doubted: float = 0.0

    def doubt(self, share: float) -> Doubt | None:
        """Where not to trust it; None where the model knows no uncertainty."""
        if self.result.uncertainty is None:
            return None
        labels = doubt_labels(self.result.uncertainty, self.contrast, share)
        return Doubt(labels=labels, share=share, doubted=float(labels.mean()))


def misfit(card: ModelCard, name: str, axes: str, shape: Sequence[int]) -> str:
    """Why a restoration cannot be used on an image; empty where it can. Reads no pixel."""
    sides = dict(zip(check_axes(axes, shape), shape, strict=True))
    if card.axes == "ZYX" and sides.get("Z", 1) < 2:
        return f"“{card.title}” restores volumes, and “{name}” has no Z axis; choose another model."
    return ""


def calibration_sentence(card: ModelCard) -> str:
    """Say what a model knows about its own errors, measured on images that its training never saw."""
    return " ".join(text for text in (_errors_sentence(card), _left_out_sentence(card)) if text)


def _left_out_sentence(card: ModelCard) -> str:
    names = card.training.get("left_out")
    if not isinstance(names, (list, tuple)) or not names:
        return ""
    n, first = len(names), f"“{names[0]}”"
    what = f"The pair {first} was" if n == 1 else f"{n} pairs, such as {first}, were"
    return f"{what} left out: poor and clean image have nothing in common there."


def _errors_sentence(card: ModelCard) -> str:
    calibration = card.training.get("calibration")
    known = calibration if isinstance(calibration, dict) else {}
    before, after = (_number(known.get(key)) for key in ("within_half_before", "within_half"))
    if before is None or after is None:
        return "This model gives no uncertainty." if card.architecture.get("is_probabilistic") is False else ""
    left, of_input = (_number(card.scores.get(key)) for key in ("mae", "mae_of_input"))
    better = f" The error left was {left / of_input:.0%} of that of the poor images." if left and of_input else ""
    return (
        f"Half of the errors should be below 0.69 of the uncertainty shown. On images kept aside it was {after:.0%} of "
        f"them ({before:.0%} before it was calibrated).{better} This holds for images like those."
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def residual_of(request: RestoreRequest, result: RestoreResult) -> NDArray[np.float32]:
    """Input less restored image, plane by plane; a lazy image is read again.

    Returns
    -------
    ndarray of float32, shape and axes of the result
    """
    restored = to_canonical(result.image, result.axes)
    layer = NoisyLayer(name=request.source_name, image=request.image, axes=request.axes, channels=request.channels)
    found = np.empty(restored.shape, np.float32)
    for t in range(restored.shape[0]):
        for z in range(restored.shape[2]):
            found[t, :, z] = window_at(layer, t=t, planes=z) - restored[t, :, z]
    return np.asarray(from_canonical(found, result.axes), np.float32)


def restore_layers(
    requests: Sequence[RestoreRequest],
    *,
    wants_residual: bool = False,
    share: float | None = None,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> list[RestoredLayer]:
    """Restore whole images one after the other with the model that they all name; it is loaded once.

    Parameters
    ----------
    wants_residual : bool
        Reads every image a second time.
    share : float or None
        Likely error, as a share of the contrast, above which a pixel is not trusted; None: for each image what
        ``core.doubt.share_to_begin`` finds.

    Returns
    -------
    list of RestoredLayer
        Of the images that were finished, in their order; fewer than asked for after a cancel.

    Raises
    ------
    As :func:`napari_cellenhance.workflows.restore.run`.
    """
    if not requests:
        return []
    first = requests[0]
    on_progress(Progress(n_done=0, n_total=0, message="Loading the model"))
    opened = restore.open_restorer(first.model_id, first.device, first.precision, cache_folder=first.cache_folder)
    found: list[RestoredLayer] = []
    for request in requests:

        def tell(progress: Progress, name: str = request.source_name) -> None:
            on_progress(replace(progress, message=f"Restoring “{name}”, tile"))

        result = restore.apply(request, opened, on_progress=tell, is_cancelled=is_cancelled)
        if not result.is_complete:
            break
        found.append(_with_doubt(_layer_of(request, result, wants_residual), share))
    return found


def _with_doubt(one: RestoredLayer, share: float | None) -> RestoredLayer:
    if one.result.uncertainty is None:
        return one
    usual = doubt_labels(one.result.uncertainty, one.contrast)
    begin = share_to_begin(one.result.uncertainty, one.contrast) if share is None else share
    return replace(one, first_doubt=one.doubt(begin), usually_doubted=float(usual.mean()))


def _layer_of(request: RestoreRequest, result: RestoreResult, wants_residual: bool) -> RestoredLayer:
    channel_axis = result.axes.index("C") if "C" in result.axes else None
    residual = residual_of(request, result) if wants_residual else None
    return RestoredLayer(
        result=result, limits=shown_range(result.image), contrast=contrast_of(result.image, channel_axis),
        scale_limit=1.0 if result.uncertainty is None else _largest(result.uncertainty), residual=residual,
        residual_limit=1.0 if residual is None else _largest(residual),
    )  # fmt: skip


def _largest(values: NDArray[np.float32]) -> float:
    """Nearly the largest absolute value; never 0."""
    return max(shown_range(np.abs(values))[1], 1e-6)
