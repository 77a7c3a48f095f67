"""A segmenting model as a filter whose pixels are classes, so that large images are segmented as they are enhanced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.recipes.protocol import Checkpoint, FilterInfo
from napari_cellenhance.core.tiling import Region

if TYPE_CHECKING:
    from napari_cellenhance.workflows._segmenters import Segmenter
    from napari_cellenhance.workflows.catalog import FilterSpec

__all__ = ["ClassesEnhancer", "SegmentFilter", "describe_segmenting", "is_segmenting"]

_PREFIX = "segment"
_BYTES_PER_PX = 1300
"""Peak of AEP with three filters, all by-products included, per pixel of a tile with its context, measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFilter:
    """What a segmenting model is asked for.

    Parameters
    ----------
    model_id : str
    object_value : int
        0: the classes; else 1 where there is an object of this class, and 0 elsewhere.
    threshold : float or None
        Probability above which there is an object; None: the most probable class counts.
    """

    model_id: str
    object_value: int = 0
    threshold: float | None = None

    @property
    def filter_id(self) -> str:
        """The same as a word.

        >>> SegmentFilter(model_id="aep-nuclei", object_value=2).filter_id
        'segment|2||aep-nuclei'
        """
        limit = "" if self.threshold is None else repr(float(self.threshold))
        return f"{_PREFIX}|{self.object_value}|{limit}|{self.model_id}"

    @classmethod
    def of(cls, filter_id: str) -> SegmentFilter:
        """Inverse of :attr:`filter_id`."""
        _, value, limit, model_id = filter_id.split("|", 3)
        return cls(model_id=model_id, object_value=int(value), threshold=float(limit) if limit else None)


def is_segmenting(filter_id: str) -> bool:
    """Whether a filter makes classes."""
    return filter_id.startswith(f"{_PREFIX}|")


def describe_segmenting(filter_id: str) -> FilterSpec:
    """Look a model up.

    Raises
    ------
    ModelNotFoundError
        No segmenting model of that id.
    ParameterError
        A class that it does not have, or a model that needs all of a plane.
    """
    from napari_cellenhance.workflows.catalog import spec_without_strength
    from napari_cellenhance.workflows.segment_model import card_of_segmenter

    asked = SegmentFilter.of(filter_id)
    card = card_of_segmenter(asked.model_id)
    if card.recipe == "stardist":
        raise ParameterError(
            f"{card.id} compares all stars of a plane with each other, which cannot be done block by block; segment "
            "images that fit into memory, or use a model of AEP or VoidSeg"
        )
    values = [one.value for one in card.classes] or [1, 2, 3]
    if asked.object_value and asked.object_value not in values:
        raise ParameterError(
            f"the model has no class {asked.object_value}; its classes are {', '.join(map(str, values))}"
        )
    return spec_without_strength(filter_id, card, "AEP")


class ClassesEnhancer:
    """A segmenter behind the contract of every filter; its values are classes, not grey values.

    Parameters
    ----------
    segmenter : Segmenter
    info : FilterInfo
    """

    bytes_per_px = _BYTES_PER_PX
    is_bounded = False

    def __init__(self, segmenter: Segmenter, info: FilterInfo) -> None:
        self.info, self._segmenter, self._asked = info, segmenter, SegmentFilter.of(info.id)

    @property
    def halo_px(self) -> int:
        """Context that ``encode`` adds to a region."""
        return int(getattr(self._segmenter, "halo_px", 0))

    def calibrate(self, planes: Sequence[NDArray[np.float32]], checkpoint: Checkpoint) -> None:
        """Nothing to measure: the norms are frozen after training."""

    def encode(self, plane: NDArray[np.float32], region: Region, calibration: Any) -> NDArray[np.float32]:
        """Segment a region, with the context it needs."""
        asked = self._asked
        found = self._segmenter.segment(plane, region=region, tile_px=max(region.shape))
        if not asked.object_value:
            return found.labels.astype(np.float32)
        if asked.threshold is None:
            return np.asarray(found.labels == asked.object_value, np.float32)
        likely = found.probabilities[found.values.index(asked.object_value)]
        return np.asarray(likely > asked.threshold, np.float32)

    def decode(self, features: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
        """The classes."""
        return features

    def calibrate_and_encode(self, plane: NDArray[np.float32], checkpoint: Checkpoint) -> None:
        """None: planes are tiled like any other."""
        return
