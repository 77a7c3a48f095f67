"""Images that a restoration is taught with, as a user chooses them: what they give, and how they look made poor."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import CellEnhanceError, ImageError
from napari_cellenhance.core.microscope import Exposure, Level, Optics, clean_target, exposures
from napari_cellenhance.workflows.care_pairs import PairedLayers
from napari_cellenhance.workflows.denoise_layers import learning_problem
from napari_cellenhance.workflows.noisy_images import NoisyLayer, portion_of, window_at
from napari_cellenhance.workflows.synthesize import Synthesis, psf_of

__all__ = [
    "Bench",
    "BenchAsk",
    "BenchView",
    "exposure_lines",
    "folder_problem",
    "optics_problem",
    "pair_folder_problem",
    "pairs_made",
    "pairs_made_of_files",
    "pairs_problem",
    "real_pairs",
    "store_point",
]

Dims = Literal[2, 3]
PATCH_PX = 96
_MOST_PX = 2048
_SLAB_PLANES = 16
_WHITE = 99.5


# --- before a training --------------------------------------------------------------------


def pairs_made(layers: Sequence[NoisyLayer], n_levels: int, n_dims: Dims = 2) -> str:
    """Say how many pairs clean layers give; reads no pixel.

    Raises
    ------
    AxesError, ImageError
        As ``noisy_images.portion_of``.
    """
    portions = [portion_of(layer, n_dims, len(layers)) for layer in layers]
    n_images = sum(portion.n_used * portion.n_channels for portion in portions)
    n_there = sum(portion.n_there * portion.n_channels for portion in portions)
    text = _made(n_images, n_levels)
    if n_there > n_images:
        text += f" The {n_images} are taken at equal steps of {n_there}; all would need too much memory."
    return text


def _made(n_images: int, n_levels: int) -> str:
    """Count pairs.

    >>> _made(1, 3), _made(4, 3)
    ('1 clean image → 3 pairs.', '4 clean images → 12 pairs.')
    """
    return f"{n_images} clean image{'' if n_images == 1 else 's'} → {n_levels * n_images} pairs."


def pairs_made_of_files(folder: str | os.PathLike[str], n_levels: int) -> str:
    """Say how many pairs a folder of clean files gives, at the least; reads no file."""
    from napari_cellenhance.workflows._targets import find_sources

    n_files = len(find_sources(folder))
    return f"{_made(n_files, n_levels)} Stacks and channels in the files give more."


def real_pairs(pairs: Sequence[PairedLayers], n_dims: Dims = 2) -> str:
    """Say what pairs of layers give; reads no pixel.

    Raises
    ------
    AxesError, ImageError
        As ``noisy_images.portion_of``.
    """
    portions = [portion_of(pair.clean, n_dims, 2 * len(pairs)) for pair in pairs]
    n = sum(portion.n_used * portion.n_channels for portion in portions)
    kind = "plane" if n_dims == 2 else "volume"
    return f"{n} pair{'' if n == 1 else 's'} of {kind}s."


def pairs_problem(pairs: Sequence[PairedLayers], n_dims: Dims, depth: int = 2) -> str:
    """Why pairs of layers cannot be learned from, as far as it is known without reading a pixel; else empty."""
    for pair in pairs:
        if pair.poor.image is pair.clean.image:
            return f"“{pair.poor.name}” is the poor and the clean image of a pair; choose two different layers."
        if problem := learning_problem((pair.poor,), n_dims, depth) or learning_problem((pair.clean,), n_dims, depth):
            return problem
        poor, clean = (portion_of(layer, n_dims) for layer in (pair.poor, pair.clean))
        if poor != clean:
            return (
                f"“{pair.poor.name}” is {_shape(pair.poor)}, “{pair.clean.name}” {_shape(pair.clean)}. The two of a "
                "pair must show the same place with the same number of pixels; crop or choose others."
            )
    return ""


def _shape(layer: NoisyLayer) -> str:
    return f"{' × '.join(map(str, np.shape(layer.image)))} ({layer.axes})"


def folder_problem(folder: str | os.PathLike[str]) -> str:
    """Why a folder holds nothing to learn from, by the names of its files alone; else empty."""
    from napari_cellenhance.workflows._targets import find_sources

    if not str(folder).strip():
        return "Choose a folder."
    try:
        find_sources(folder)
    except CellEnhanceError as error:
        text = str(error)
        return f"{text[:1].upper()}{text[1:]}."
    return ""


def pair_folder_problem(folder: str | os.PathLike[str]) -> str:
    """The same for a folder that must hold the folders ``noisy`` and ``clean``."""
    from napari_cellenhance.workflows._targets import find_sources

    place = Path(folder)
    if not str(folder).strip():
        return "Choose a folder that holds the folders “noisy” and “clean”."
    if not place.is_dir():
        return f"There is no folder {place}."
    counts = []
    for kind in ("noisy", "clean"):
        if not (place / kind).is_dir():
            return f"{place} has no folder “{kind}”; expected the folders “noisy” and “clean”."
        if problem := folder_problem(place / kind):
            return problem
        counts.append(len(find_sources(place / kind)))
    if counts[0] != counts[1]:
        return f"There are {counts[0]} noisy and {counts[1]} clean images; expected as many of each, in the same order."
    return ""


def optics_problem(synthesis: Synthesis, n_dims: Dims, *, can_ask_files: bool) -> str:
    """Why the blur cannot be computed; empty if it can. ``can_ask_files``: files may tell the size of their pixels."""
    if synthesis.psf_file is None:
        if synthesis.optics.kind == "none" or can_ask_files:
            return ""
        if not synthesis.optics.pixel_um:
            return (
                "The size of the pixels is not known: the layer has no scale in micrometres. State it under "
                "“Microscope”, or choose no blur."
            )
        if n_dims == 3 and not synthesis.optics.step_um:
            return "The distance of the planes is not known; state it under “Microscope”, or choose no blur."
    try:
        psf_of(synthesis, n_dims)
    except (CellEnhanceError, OSError) as error:
        text = str(error)
        return f"{text[:1].upper()}{text[1:]}."
    return ""


def store_point(image: Any, folder: str | os.PathLike[str]) -> Path:
    """Keep the image of a point as a file, where a training finds it again; the same image gives the same file.

    Raises
    ------
    ImageError
        Neither a plane nor a volume, or larger than 257 px.
    WriteError
        It cannot be written.
    """
    from napari_cellenhance.io.images import write
    from napari_cellenhance.workflows._evaluate_cells import made_folder

    pixels = np.squeeze(np.asarray(image))
    if pixels.ndim not in (2, 3) or max(pixels.shape) > 257:
        sides = " × ".join(map(str, pixels.shape))
        raise ImageError(f"the image of the point is {sides}; crop it to the point: a plane or a volume up to 257 px")
    pixels = np.asarray(pixels, np.float32)
    digest = hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()[:12]
    path = made_folder(Path(folder)) / f"point-{digest}.ome.tif"
    if not path.is_file():
        write(path, pixels, "YX" if pixels.ndim == 2 else "ZYX", dtype="float32")
    return path


# --- one patch, clean and made poor -------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BenchAsk:
    """What to look at.

    Parameters
    ----------
    source : NoisyLayer or path
        A clean layer, or a file or folder of clean images, of which the first is shown.
    t, z, channel : int
        Plane of the layer.
    synthesis : Synthesis
    n_dims : 2 or 3
        3: planes around the one that is shown blur into it.
    seed : int
        Of the training.
    number : int
        Another number, another patch, with other values drawn.
    """

    source: NoisyLayer | Path
    synthesis: Synthesis
    t: int = 0
    z: int = 0
    channel: int = 0
    n_dims: Dims = 2
    seed: int = 0
    number: int = 0
    patch_px: int = PATCH_PX


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BenchView:
    """One patch, all of shape (Y, X).

    Parameters
    ----------
    raw : ndarray of float32
        The image, stretched to [0, 1] and not filtered.
    clean : ndarray of float32
        The target, in [0, 1].
    poor : tuple of (ndarray of float32, Exposure)
        At each level; 1 is that of the target.
    white : float
        Grey value to show as white, the same for all, so that under-exposure is seen.
    """

    raw: NDArray[np.float32]
    clean: NDArray[np.float32]
    poor: tuple[tuple[NDArray[np.float32], Exposure], ...]
    white: float


def exposure_lines(exposure: Exposure) -> tuple[str, str]:
    """Say what was drawn for one exposure, shortly.

    >>> drawn = Exposure(level="mild", photons=87.2, sigma=0.03, amplitude=1, gain=0.72, saturation=1, seed=(0,))
    >>> exposure_lines(drawn)
    ('87 photons', 'intensity × 0.72')
    """
    photons = "no shot noise" if np.isinf(exposure.photons) else f"{exposure.photons:.0f} photons"
    return photons, f"intensity × {exposure.gain:.2f}"


class Bench:
    """Makes a patch of a clean image poor, again and again; the plane and what does not change are kept.

    Not for several threads at a time.
    """

    def __init__(self) -> None:
        self._file: tuple[Any, NoisyLayer, Optics] | None = None
        self._planes: tuple[Any, NDArray[np.float32]] | None = None
        self._target: tuple[Any, NDArray[np.float32], NDArray[np.float32]] | None = None
        self._place: tuple[Any, tuple[slice, slice]] | None = None

    def look(self, ask: BenchAsk) -> BenchView:
        """Make the patch.

        Raises
        ------
        ImageError, AxesError, ParameterError
            No contrast, not readable, a blur that cannot be computed.
        """
        layer, synthesis = self._layer_of(ask)
        key: tuple[Any, ...] = (id(layer.image), layer.axes, layer.channels, ask.t, ask.z, ask.channel, ask.n_dims)
        slab, middle = self._slab(key, layer, ask)
        key = (key, synthesis.preparation)
        if self._target is None or self._target[0] != key:
            raw = clean_target(slab[middle], replace(synthesis.preparation, radius_px=0.0))
            self._target = key, clean_target(slab, synthesis.preparation), raw
        _, target, raw = self._target
        window = self._window(key[0], target[middle], ask)
        psf = psf_of(synthesis, ask.n_dims)
        cut, inner = _with_margin(window, target.shape[-2:], psf.shape[-2:], synthesis.levels)
        piece = target[:, cut[0], cut[1]]
        made = exposures(
            piece if ask.n_dims == 3 else piece[middle], psf, synthesis.levels, seed=ask.seed, index=ask.number
        )
        at: Any = (middle, *inner) if ask.n_dims == 3 else inner
        clean = target[middle][window]
        return BenchView(
            raw=raw[window], clean=clean, poor=tuple((poor[at], drawn) for poor, drawn in made),
            white=max(float(np.percentile(clean, _WHITE)), 0.05),
        )  # fmt: skip

    def _layer_of(self, ask: BenchAsk) -> tuple[NoisyLayer, Synthesis]:
        """The layer, or the first file, with the size of its pixels where that was left open."""
        if isinstance(ask.source, NoisyLayer):
            return ask.source, ask.synthesis
        if self._file is None or self._file[0] != ask.source:
            from napari_cellenhance.io.images import read
            from napari_cellenhance.workflows._targets import find_sources

            path = find_sources(ask.source)[0]
            file = read(path)
            sizes = {axis: abs(size) for axis, size in file.pixel_size_um.items()}
            layer = NoisyLayer(name=path.name, image=file.image, axes=file.axes)
            self._file = ask.source, layer, Optics(pixel_um=sizes.get("X", 0.0), step_um=sizes.get("Z", 0.0))
        _, layer, known = self._file
        optics = ask.synthesis.optics
        optics = replace(optics, pixel_um=optics.pixel_um or known.pixel_um, step_um=optics.step_um or known.step_um)
        return layer, replace(ask.synthesis, optics=optics)

    def _slab(self, key: Any, layer: NoisyLayer, ask: BenchAsk) -> tuple[NDArray[np.float32], int]:
        """The plane (1, Y, X), or planes around it, and which of them it is; of large planes the middle."""
        portion = portion_of(layer, ask.n_dims)
        n_planes = portion.sides[0] if ask.n_dims == 3 else 1
        first = max(0, ask.z - _SLAB_PLANES) if ask.n_dims == 3 else ask.z
        last = min(n_planes, ask.z + _SLAB_PLANES + 1) if ask.n_dims == 3 else ask.z + 1
        if self._planes is None or self._planes[0] != key:
            planes = window_at(layer, t=ask.t, planes=slice(first, last))
            channel = planes[min(ask.channel, len(planes) - 1)]
            cut = tuple(slice(max(0, (n - _MOST_PX) // 2), max(0, (n - _MOST_PX) // 2) + _MOST_PX)
                        for n in channel.shape[-2:])  # fmt: skip
            self._planes = key, channel[:, cut[0], cut[1]]
        return self._planes[1], ask.z - first

    def _window(self, key: Any, target: NDArray[np.float32], ask: BenchAsk) -> tuple[slice, slice]:
        """Where the patch lies: near something bright, as in the training."""
        from napari_cellenhance.core.paired_patches import PatchPlaces

        key = (key, ask.seed, ask.number, ask.patch_px)
        if self._place is None or self._place[0] != key:
            places = PatchPlaces(target, [min(ask.patch_px, n) for n in target.shape])
            y, x = places.draw(np.random.default_rng([ask.seed, ask.number]))
            self._place = key, (y, x)
        return self._place[1]


def _with_margin(
    window: tuple[slice, slice], shape: Sequence[int], psf: Sequence[int], levels: Sequence[Level]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The window with what blurs into it, and where it lies in there."""
    reach = int(np.ceil(4 * max(level.blur[1] for level in levels)))
    cut, inner = [], []
    for part, n, side in zip(window, shape, psf, strict=True):
        margin = side // 2 + reach
        start, stop = max(0, part.start - margin), min(n, part.stop + margin)
        cut.append(slice(start, stop))
        inner.append(slice(part.start - start, part.stop - start))
    return tuple(cut), tuple(inner)
