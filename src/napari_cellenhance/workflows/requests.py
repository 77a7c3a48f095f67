"""What the doors hand to a workflow, and what they get back. No torch, no napari."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.recipes.protocol import Region

__all__ = [
    "DEFAULT_FILTER",
    "MEMORY_LIMIT_MB",
    "NOT_QUANTITATIVE",
    "BlobOptions",
    "EnhanceRequest",
    "EnhanceResult",
    "Reading",
    "SegmentOptions",
    "StrengthMap",
    "StrengthSuggestion",
    "reading_of",
]

DEFAULT_FILTER = "nunet-guided"
"""Filter of a request that names none; the first one of the manifest, so the dock begins with it too."""

MEMORY_LIMIT_MB = 2000
"""For the whole program, unless somebody says otherwise."""

NOT_QUANTITATIVE = (
    "Enhanced intensities show where objects are; they are not quantitative. Measure brightness on the original image."
)
"""Said in every dock, and written into the record of every result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOptions:
    """Enhanced image → Labels: threshold, optional watershed split, size filter."""

    method: Literal["otsu", "li", "manual"] = "otsu"
    threshold: float = 0.5
    """Used by ``manual`` only; on the enhanced [0, 1] scale."""
    split_touching: bool = True
    min_size_px: int = 30

    def __post_init__(self) -> None:
        if self.method not in ("otsu", "li", "manual"):
            raise ParameterError(f"threshold method is {self.method!r}; expected otsu, li or manual")
        if not np.isfinite(self.threshold):
            raise ParameterError(f"threshold is {self.threshold}; expected a finite number")
        if self.min_size_px < 0:
            raise ParameterError(f"minimum size is {self.min_size_px} px; expected 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobOptions:
    """Enhanced image → Points by the Laplacian-of-Gaussian scale-space detector."""

    min_radius_px: float = 4.0
    max_radius_px: float = 20.0
    threshold: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.min_radius_px <= self.max_radius_px:
            raise ParameterError(
                f"blob radii are {self.min_radius_px}…{self.max_radius_px} px; expected 0 < smallest ≤ largest"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StrengthMap:
    """A strength that differs from place to place. Equal only to itself: it may hold large arrays.

    Parameters
    ----------
    values : array-like (numpy, dask, zarr)
        One plane for all planes of the image, or of the image's own shape, with or without its channels.
        Real numbers are strengths (NaN: the slider's), rounded to steps of 1/40 of the slider, 0.25 for a
        network. Whole numbers are strengths too, or labels if ``label_strengths`` is given.
    label_strengths : mapping of int to float, or None
        Label → strength; labels that are not in it, and the ground, follow the slider.
    edge_px : int
        Width over which regions fade into each other, in pixels; 0 cuts sharply.
    name : str
        Where it comes from; only carried along.
    """

    values: Any
    label_strengths: Mapping[int, float] | None = None
    edge_px: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        if self.edge_px < 0:
            raise ParameterError(f"soft edges are {self.edge_px} px wide; expected 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class StrengthSuggestion:
    """A strength proposed from the image itself.

    Parameters
    ----------
    strength : float
    reason : str
        One sentence for the user.
    strengths, scores : tuple of float
        The criterion at each strength that was looked at; its meaning is told in ``core.suggestion``.
    """

    strength: float
    reason: str
    strengths: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnhanceRequest:
    """Enhance one image of any axes. Holds no layer and no viewer.

    Parameters
    ----------
    image : array-like (numpy, dask, zarr)
        Any axes order; read plane by plane, never written to.
    axes : str
        One letter per dimension of ``image`` out of ``TCZYX``, plus ``S`` for the samples
        (RGB or RGBA) of a colour image.
    filter_id : str
        Id of a model in the manifest, or of a classical filter.
    strength : float, "auto" or None
        None takes the filter's default; 0 returns the input unchanged; "auto" takes what
        ``workflows.suggest`` proposes for this image.
    strength_map : StrengthMap or None
        Strength by region; ``strength`` then counts where the map says nothing. Where it is 0, the result
        is the normalised image, objects bright.
    earlier : dict or None
        Record of how the image itself was made (denoised, say); carried along, so that the chain of steps is known.
    suggestion : StrengthSuggestion or None
        Where ``strength`` comes from, if it was proposed; only carried along.
    objects_are_dark : bool
        Invert the contrast before filtering (the networks look for bright objects).
    channels : "all", "grey", or tuple of int
        Which of ``C`` (or ``S``) to enhance; "grey" averages colours by luminance first, and
        drops the axis. One chosen channel drops the axis too.
    statistics : "plane" or "stack"
        Normalise and calibrate for every plane, or once per channel for the whole stack
        (no flicker along T and Z).
    region : Region or None
        Compute only this window of every plane; statistics still come from the whole plane.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``openvino``.
    precision : str
        ``auto`` (bf16 where the processor has it), ``float32`` or ``bfloat16``.
    tile_px : int or None
        Side of a tile, in pixels; None derives it from ``memory_limit_mb``.
    """

    image: Any
    axes: str
    filter_id: str = DEFAULT_FILTER
    strength: float | Literal["auto"] | None = None
    strength_map: StrengthMap | None = None
    suggestion: StrengthSuggestion | None = None
    objects_are_dark: bool = False
    channels: Literal["all", "grey"] | tuple[int, ...] = "all"
    statistics: Literal["plane", "stack"] = "plane"
    region: Region | None = None
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    tile_px: int | None = None
    memory_limit_mb: int = MEMORY_LIMIT_MB
    segment: SegmentOptions | None = None
    blobs: BlobOptions | None = None
    source_name: str = "image"
    pixel_size_um: dict[str, float] = field(default_factory=dict)
    """Axis letter → size, in µm (``T`` in s); only carried along."""
    earlier: Mapping[str, Any] | None = None
    cache_folder: str = ""
    """Preferred folder of downloaded models; empty takes the system's. The environment variable wins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnhanceResult:
    """What an enhancement returned.

    Parameters
    ----------
    image : ndarray
        float32 in [0, 1] (the input itself, same dtype, at strength 0), axes ``axes``.
        After a cancel: finished planes or tiles filled, the rest 0.
    axes : str
        Axes of ``image``; the request's, less C or S where one channel or grey was asked.
    provenance : dict
        JSON-ready recipe: filter id, version, SHA-256, strength, normaliser, statistics, axes,
        device, precision, tiles, versions, source. Goes to ``metadata['cellenhance']``.
    labels : ndarray of uint32 or None
        Same shape as ``image``.
    points : ndarray of shape (N, image.ndim) or None
        Pixel coordinates, axes order of ``image``.
    point_radii_px : ndarray of shape (N,) or None
    is_complete : bool
        False after a cancel.
    n_done, n_total : int
        Tiles finished, tiles asked.
    warnings : tuple of str
        Plain sentences for the user: flat planes, non-finite pixels, device fallback.
    """

    image: NDArray[Any]
    axes: str
    provenance: dict[str, Any]
    labels: NDArray[np.uint32] | None = None
    points: NDArray[np.float64] | None = None
    point_radii_px: NDArray[np.float64] | None = None
    is_complete: bool = True
    n_done: int = 0
    n_total: int = 0
    warnings: tuple[str, ...] = ()


class Reading(Protocol):
    """What any request says of the pixels that are read."""

    @property
    def image(self) -> Any:
        """Array-like of any shape."""

    @property
    def axes(self) -> str:
        """One letter for each dimension."""

    @property
    def channels(self) -> Any:
        """All, an average, or some."""

    @property
    def region(self) -> Region | None:
        """A window of the plane; None: all of it."""


def reading_of(request: Reading) -> EnhanceRequest:
    """The part of any request that says which pixels are read."""
    return EnhanceRequest(image=request.image, axes=request.axes, channels=request.channels, region=request.region)
