"""What the kinds of segmenting models have in common, and where they differ: opening, outputs, objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.recipes.protocol import Checkpoint
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.zoo.cards import ModelCard

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice

__all__ = [
    "OUTPUTS",
    "Found",
    "InstanceOptions",
    "Output",
    "Segmenter",
    "is_of_objects",
    "objects_in",
    "outputs_of",
    "segmenter_of",
    "threshold_of",
]

Output = Literal["classes", "instances", "probabilities", "translated", "filters", "branches", "denoised"]
OUTPUTS: tuple[Output, ...] = (
    "classes", "instances", "probabilities", "translated", "filters", "branches", "denoised",
)  # fmt: skip

Method = Literal["auto", "components", "watershed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceOptions:
    """Classes → objects with a number each.

    Parameters
    ----------
    method : "auto", "components" or "watershed"
        What hangs together is one object; or such a piece is also cut at its necks. "auto": components where the model
        has a class for the borders between objects (VoidSeg), else watershed. StarDist finds objects by itself.
    min_size_px : int
        Smaller objects are dropped.
    object_value : int
        Label value of the class whose objects are numbered.
    threshold : float or None
        Probability above which there is an object. None: as the model was stored; AEP takes the most probable class.
    grow_px : int
        Of VoidSeg: objects grow so far into the border between them.
    """

    method: Method = "auto"
    min_size_px: int = 30
    object_value: int = 2
    threshold: float | None = None
    grow_px: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("auto", "components", "watershed"):
            raise ParameterError(f"method is {self.method!r}; expected 'auto', 'components' or 'watershed'")
        if self.min_size_px < 0 or self.grow_px < 0:
            raise ParameterError(
                f"minimum size is {self.min_size_px} px, growth {self.grow_px} px; expected 0 or more each"
            )
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ParameterError(f"threshold is {self.threshold}; expected a probability, 0 to 1")


class Found(Protocol):
    """A segmented region; what a kind of model makes besides is an attribute named like the output."""

    @property
    def labels(self) -> NDArray[np.int32]:
        """Label value of each pixel, (Y, X)."""
        ...

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Of each class, (C, Y, X)."""
        ...

    @property
    def values(self) -> tuple[int, ...]:
        """Label values of the classes."""
        ...


class Segmenter(Protocol):
    """A trained network, ready for planes of any size."""

    def segment(
        self,
        plane: NDArray[np.float32],
        *,
        region: Region | None = None,
        tile_px: int = 512,
        on_tile: Callable[[Region], None] = lambda region: None,
        checkpoint: Checkpoint = lambda: None,
    ) -> Found:
        """Segment a plane, or a window of it."""
        ...


def is_of_objects(card: ModelCard) -> bool:
    """Whether the objects of a model, not its classes, are what it was trained for."""
    return card.recipe in ("voidseg", "stardist")


def outputs_of(card: ModelCard) -> tuple[Output, ...]:
    """What a model can give, in the order of ``OUTPUTS``."""
    if not is_of_objects(card):
        return tuple(name for name in OUTPUTS if name != "denoised")
    has_denoiser = card.architecture.get("denoiser") is not None
    known = {"classes", "instances", "probabilities"} | ({"denoised"} if has_denoiser else set())
    return tuple(name for name in OUTPUTS if name in known)


def segmenter_of(card: ModelCard, module: Any, choice: DeviceChoice) -> Segmenter:
    """The network of a card, ready for planes."""
    if card.recipe == "voidseg":
        from napari_cellenhance.core.recipes.voidseg_segmenter import VoidSegmenter

        return VoidSegmenter(module, choice)
    if card.recipe == "stardist":
        from napari_cellenhance.core.recipes.denoised_stardist import StarPlanes

        return StarPlanes(module, choice)
    from napari_cellenhance.core.recipes.aep_segmenter import AEPSegmenter

    return AEPSegmenter(module, [one.value for one in card.classes], choice)


def threshold_of(card: ModelCard, options: InstanceOptions) -> float | None:
    """Threshold that is used: that of the options, else the model's; None where the most probable class counts."""
    if options.threshold is not None or not is_of_objects(card):
        return options.threshold
    return 0.5 if card.threshold is None else card.threshold


def objects_in(found: Found, card: ModelCard, options: InstanceOptions) -> NDArray[np.uint32]:
    """Number the objects of a segmented region, 1…n; 0 is ground.

    Raises
    ------
    ParameterError
        A class that the model does not have.
    """
    from napari_cellenhance.core.postprocess import label_mask
    from napari_cellenhance.core.three_classes import objects_of

    value, threshold = options.object_value, threshold_of(card, options)
    if value not in found.values:
        known = ", ".join(str(value) for value in found.values)
        raise ParameterError(f"the model has no class {value}; its classes are {known}")
    if card.recipe == "stardist":
        return _large(np.asarray(getattr(found, "instances"), np.uint32), options.min_size_px)  # noqa: B009
    if card.recipe == "voidseg" and value == 2 and options.method != "watershed":
        return objects_of(
            found.probabilities, threshold or 0.0, grow_px=options.grow_px, min_size_px=options.min_size_px
        )
    is_object = found.labels == value
    if threshold is not None:
        is_object = found.probabilities[found.values.index(value)] > threshold
    is_cut = options.method == "watershed" or (options.method == "auto" and card.recipe == "aep")
    return label_mask(is_object, is_cut, options.min_size_px)


def _large(ids: NDArray[np.uint32], min_size_px: int) -> NDArray[np.uint32]:
    """Objects of at least this size, numbered anew."""
    sizes = np.bincount(ids.ravel())
    is_kept = sizes >= max(1, min_size_px)
    is_kept[0] = False
    return np.where(is_kept, np.cumsum(is_kept), 0).astype(np.uint32)[ids]
