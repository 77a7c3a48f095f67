"""Layers as a user denoises them: what is learned from, which model fits, how the noise looks, several at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes
from napari_cellenhance.core.blind_spots import Structure, autocorrelation, suggest_structure
from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.workflows import denoise
from napari_cellenhance.workflows.denoise import DEFAULT_DENOISER, DenoiseRequest, DenoiseResult
from napari_cellenhance.workflows.noisy_images import NoisyLayer, Portion, portion_of, window_at
from napari_cellenhance.workflows.paint import display_range
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress
from napari_cellenhance.zoo.cards import ModelCard

if TYPE_CHECKING:
    from napari_cellenhance.workflows.train_n2v import N2VRequest

__all__ = [
    "DenoisedLayer",
    "NoiseLook",
    "can_start_from",
    "denoise_layers",
    "general_start",
    "learned_from",
    "learning_problem",
    "look_at_noise",
    "misfit",
    "n_channels_of",
    "shown_range",
]

LEAST_PX = 16
"""Sides from which on there is something to learn from."""
_NOISE_PX = 1024
_REACH_PX = 10
_SHOWN_PX = 1 << 22


# --- before a training --------------------------------------------------------------------


def learned_from(layers: Sequence[NoisyLayer], n_dims: Any = 2) -> str:
    """Say in one sentence what a training on these layers sees; reads no pixel.

    Raises
    ------
    AxesError, ImageError
        As ``noisy_images.portion_of``.
    """
    portions = [portion_of(layer, n_dims, len(layers)) for layer in layers]
    if not portions:
        return ""
    n_used, n_there = sum(p.n_used for p in portions), sum(p.n_there for p in portions)
    kind = "plane" if n_dims == 2 else "volume"
    words = f"{n_used} {kind}{'' if n_used == 1 else 's'}"
    if n_used < n_there:
        words = f"{n_used} of {n_there} {kind}s"
    sides = {p.sides for p in portions}
    size = f" of {' × '.join(map(str, portions[0].sides))} px" if len(sides) == 1 else ""
    channels = _in_channels(portions)
    start = "It learns from " if len(layers) == 1 else f"It learns from {len(layers)} images: "
    end = "; they are taken at equal steps, since all would need too much memory" if n_used < n_there else ""
    return f"{start}{words}{size}{channels}{end}."


def _in_channels(portions: Sequence[Portion]) -> str:
    n = portions[0].n_channels
    return f", {n} channels each" if n > 1 and all(p.n_channels == n for p in portions) else ""


def learning_problem(layers: Sequence[NoisyLayer], n_dims: Any = 2, depth: int = 2) -> str:
    """Why there can be no training on these layers, as far as it is known without reading a pixel; else empty."""
    try:
        portions = [portion_of(layer, n_dims, len(layers)) for layer in layers]
    except CellEnhanceError as error:
        text = str(error)
        return text[:1].upper() + text[1:]
    for layer, portion in zip(layers, portions, strict=True):
        least = max(LEAST_PX, 2**depth)
        if min(portion.sides[-2:]) < least:
            height, width = portion.sides[-2:]
            return f"“{layer.name}” is {height} × {width} px; a training needs {least} px or more along each side."
        if n_dims == 3 and portion.sides[0] < 2**depth:
            return (
                f"“{layer.name}” has {portion.sides[0]} planes along Z; a training on volumes needs {2**depth} or "
                "more. Learn from planes (2-D)."
            )
        if portion.n_channels != portions[0].n_channels:
            return (
                f"“{layer.name}” has {portion.n_channels} channels, “{layers[0].name}” {portions[0].n_channels}; "
                "choose images of the same channels, or one channel of each."
            )
    return ""


def general_start(request: N2VRequest, cards: Sequence[ModelCard], n_channels: int = 1) -> ModelCard | None:
    """The shipped denoiser, where its network is the one to train; None where random weights are the start."""
    card = next((card for card in cards if card.id == DEFAULT_DENOISER), None)
    return card if card is not None and can_start_from(request, card, n_channels) else None


def can_start_from(request: N2VRequest, card: ModelCard, n_channels: int = 1) -> bool:
    """Whether a training can go on from the weights of a denoiser."""
    pool, top_skip = ("max", True) if request.variant == "n2v" else ("blur", False)
    wanted = {
        "depth": request.depth, "width": request.width, "kernel_px": request.kernel_px, "n_dims": request.n_dims,
        "pool": pool, "top_skip": top_skip, "has_classes": request.has_classes,
    }  # fmt: skip
    known = card.architecture
    if any(known.get(name) != value for name, value in wanted.items()):
        return False
    if request.is_joint and n_channels > 1:
        return bool(known.get("is_joint")) and known.get("n_channels") == n_channels
    return not known.get("is_joint") or known.get("n_channels") == 1


# --- the noise itself ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NoiseLook:
    """How the noise of neighbouring pixels hangs together.

    Parameters
    ----------
    shifts_px : ndarray of shape (n,)
        From 0 on.
    along_rows, along_columns : ndarray of shape (n,)
        Autocorrelation for a shift along X, and along Y.
    structure, reach_px
        What to hide with each blind spot.
    sentence : str
    """

    shifts_px: NDArray[np.float64]
    along_rows: NDArray[np.float64]
    along_columns: NDArray[np.float64]
    structure: Structure
    reach_px: int
    sentence: str


def look_at_noise(layer: NoisyLayer, *, t: int = 0, z: int = 0) -> NoiseLook:
    """Measure the noise of the middle of a plane, and propose a structure; of a lazy layer only the plane is read."""
    plane = window_at(layer, t=t, planes=z)[0]
    y0, x0 = (max(0, (n - _NOISE_PX) // 2) for n in plane.shape)
    found = autocorrelation(plane[y0 : y0 + _NOISE_PX, x0 : x0 + _NOISE_PX], _REACH_PX)
    middle = found.shape[0] // 2
    structure, reach_px = suggest_structure(found)
    rows, columns = found[middle, middle:], found[middle:, middle]
    return NoiseLook(
        shifts_px=np.arange(len(rows), dtype=np.float64), along_rows=rows, along_columns=columns,
        structure=structure, reach_px=reach_px, sentence=_noise_sentence(found, structure, reach_px),
    )  # fmt: skip


def _noise_sentence(correlation: NDArray[np.float64], structure: Structure, reach_px: int) -> str:
    middle = correlation.shape[0] // 2
    if correlation[middle, middle] <= 0:
        return "This plane shows one single grey value; choose another one."
    along, down = float(correlation[middle, middle + 1]), float(correlation[middle + 1, middle])
    if structure == "none":
        found = f"{along:.2f} along rows, {down:.2f} along columns"
        return f"The noise of neighbours has little in common (correlation {found}): no structure is needed."
    where = {"horizontal": "along rows", "vertical": "along columns"}.get(structure, "in all directions")
    highest = along if structure == "horizontal" else down if structure == "vertical" else max(along, down)
    return (
        f"Neighbours {where} share noise (correlation {highest:.2f} at 1 px): “{structure}”, {reach_px} px proposed. "
        "Fine detail of the object looks the same here; if it gets lost, take a smaller reach."
    )


# --- denoising ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoisedLayer:
    """A result, and the grey values to show as black and white."""

    result: DenoiseResult
    limits: tuple[float, float]


def n_channels_of(card: ModelCard) -> int:
    """Channels that a denoiser takes; one that takes a single channel serves every channel."""
    n = card.architecture.get("n_channels", 1)
    return n if isinstance(n, int) else 1


def misfit(card: ModelCard, name: str, axes: str, shape: Sequence[int], channels: Any) -> str:
    """Why a denoiser cannot be used on an image; empty where it can. Reads no pixel."""
    sides = dict(zip(check_axes(axes, shape), shape, strict=True))
    if card.axes == "ZYX" and sides.get("Z", 1) < 2:
        return f"“{card.title}” denoises volumes, and “{name}” has no Z axis; choose another model."
    n_wanted = n_channels_of(card)
    n_there = len(channels) if isinstance(channels, tuple) else 1 if channels == "grey" else sides.get("C", 1)
    if n_wanted > 1 and n_there != n_wanted:
        return (
            f"“{card.title}” was trained for {n_wanted} channels, and “{name}” gives {n_there}; choose another model."
        )
    return ""


def denoise_layers(
    requests: Sequence[DenoiseRequest],
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> list[DenoisedLayer]:
    """Denoise images one after the other with the model that they all name; it is loaded once.

    Returns
    -------
    list of DenoisedLayer
        Of the images that were finished, in their order; fewer than asked for after a cancel.

    Raises
    ------
    As :func:`napari_cellenhance.workflows.denoise.run`.
    """
    if not requests:
        return []
    first = requests[0]
    on_progress(Progress(n_done=0, n_total=0, message="Loading the model"))
    opened = denoise.open_denoiser(first.model_id, first.device, first.precision, cache_folder=first.cache_folder)
    found: list[DenoisedLayer] = []
    for request in requests:

        def tell(progress: Progress, name: str = request.source_name) -> None:
            on_progress(replace(progress, message=f"Denoising “{name}”, tile"))

        result = denoise.apply(request, opened, on_progress=tell, is_cancelled=is_cancelled)
        if not result.is_complete:
            break
        found.append(DenoisedLayer(result=result, limits=shown_range(result.image)))
    return found


def shown_range(image: NDArray[Any]) -> tuple[float, float]:
    """Grey values to show as black and white; of a large image every n-th value is looked at."""
    values = np.asarray(image).reshape(-1)
    return display_range(values[:: max(1, values.size // _SHOWN_PX)])
