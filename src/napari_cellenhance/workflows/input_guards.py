"""Look at the input of a network while it runs: whether it is empty, cut off, or unlike the training images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.input_traits import TRAITS, Outside, is_empty, middle, outside, saturated_share, traits_of
from napari_cellenhance.core.object_size import suggest_diameter
from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["Finding", "InputWatch", "Level", "strange_sentence"]

Level = Literal["fine", "look", "doubt"]
"""Words of a traffic light: nothing found; look at this place or number; do not trust it without a look."""

_MAX_LOOKS, _MAX_TRAITS = 8, 2
_MAX_SATURATED = 0.001
_SIZES_PX = 400
_MAX_NOISE_OF_SIZES = 0.05
_SIZE_MARGIN = 1.3
"""Factor by which an estimated diameter may lie outside of what a model knows: the estimate is that uncertain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one guard says.

    Parameters
    ----------
    guard : str
        Its name: "input", "size", "empty", "saturation", "residual", "objects", "spread", "halves", "uncertainty".
    level : "fine", "look" or "doubt"
    sentence : str
        For a biologist.
    numbers : mapping of str to float, int or str
        What it rests on; ready for JSON.
    """

    guard: str
    level: Level
    sentence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "guard": self.guard, "level": self.level, "sentence": self.sentence, "numbers": dict(self.numbers)
        }  # fmt: skip


class InputWatch:
    """Sees the planes that a network is given, and says what is odd about them. Cheap: the middle of a few planes.

    Parameters
    ----------
    card : ModelCard
        Its ``input_ranges`` tell what the training images were like.
    objects_are_dark : bool
        As the network will see them inverted.
    max_looks, max_traits : int
        Planes that are looked at, and those of them that are compared with the training images.
    noun : str
        What they are, for people.
    """

    def __init__(
        self,
        card: ModelCard,
        *,
        objects_are_dark: bool = False,
        max_looks: int = _MAX_LOOKS,
        max_traits: int = _MAX_TRAITS,
        noun: str = "plane",
    ) -> None:
        self.card, self.objects_are_dark = card, objects_are_dark
        self._max_looks, self._max_traits, self._noun = max_looks, max_traits, noun
        self._n_seen = self._n_empty = 0
        self._saturated: list[float] = []
        self._traits: list[dict[str, float]] = []
        self._diameter: float | None = None

    def see(self, plane: NDArray[Any]) -> None:
        """Look at one plane of shape (Y, X); after ``max_looks`` of them no more."""
        if self._n_seen >= self._max_looks or plane.ndim != 2 or plane.dtype.kind == "b":
            return
        finite = plane if plane.dtype.kind != "f" or np.isfinite(plane).all() else np.nan_to_num(plane)
        self._n_seen += 1
        if is_empty(finite):
            self._n_empty += 1
            return
        self._saturated.append(saturated_share(finite))
        if len(self._traits) < self._max_traits and self.card.input_ranges:
            # Colours that were averaged, and whole numbers alike: the largest value becomes the smallest.
            bright = finite.max() - finite if self.objects_are_dark else finite
            if found := traits_of(bright):
                self._traits.append(found)
                self._measure_objects(bright, found)

    def _measure_objects(self, plane: NDArray[Any], traits: Mapping[str, float]) -> None:
        """Once; where noise is strong, blobs of noise would be measured."""
        known = self.card.object_diameter_px
        if known is not None and self._diameter is None and traits["noise"] <= _MAX_NOISE_OF_SIZES:
            self._diameter = suggest_diameter(middle(plane, _SIZES_PX))

    def findings(self) -> tuple[Finding, ...]:
        """What is odd; empty where nothing is."""
        found = (self._empty(), self._saturation(), self._strange(), self._size())
        return tuple(one for one in found if one is not None)

    def sentences(self) -> list[str]:
        """What is odd, for the status of a run."""
        return [one.sentence for one in self.findings()]

    def record(self) -> dict[str, Any]:
        """What was looked at, ready for JSON."""
        return {
            "n_planes_seen": self._n_seen,
            "traits": {name: round(value, 4) for name, value in self._mean_traits().items()},
            "object_diameter_px": None if self._diameter is None else round(self._diameter, 1),
            "findings": [one.to_dict() for one in self.findings()],
        }

    def _mean_traits(self) -> dict[str, float]:
        names = [name for name in TRAITS if self._traits and all(name in each for each in self._traits)]
        return {name: float(np.mean([each[name] for each in self._traits])) for name in names}

    def _empty(self) -> Finding | None:
        if not self._n_empty:
            return None
        if self._n_empty == self._n_seen == 1:
            what = f"This {self._noun} holds nothing but noise"
        else:
            what = f"{self._n_empty} of {self._n_seen} {self._noun}s that were looked at hold nothing but noise"
        return Finding(
            guard="empty", level="doubt",
            sentence=f"{what}: what the network shows there may be made up.",
            numbers={"n_empty": self._n_empty, "n_seen": self._n_seen},
        )  # fmt: skip

    def _saturation(self) -> Finding | None:
        share = max(self._saturated, default=0.0)
        if share <= _MAX_SATURATED:
            return None
        return Finding(
            guard="saturation", level="look",
            sentence=(
                f"{100 * share:.2g} % of the pixels are cut off at the largest grey value; what was brighter is lost."
            ),
            numbers={"share": round(share, 5)},
        )  # fmt: skip

    def _strange(self) -> Finding | None:
        found = outside(self._mean_traits(), self.card.input_ranges)
        if not found:
            return None
        return Finding(
            guard="input", level="look", sentence=strange_sentence(found, self.card.id),
            numbers={one.trait: round(one.value, 4) for one in found},
        )  # fmt: skip

    def _size(self) -> Finding | None:
        known, told = self.card.object_diameter_px, self._diameter
        if known is None or told is None or known[0] / _SIZE_MARGIN <= told <= known[1] * _SIZE_MARGIN:
            return None
        what, advice = ("smaller", "enlarge") if told < known[0] else ("larger", "shrink")
        return Finding(
            guard="size", level="look",
            sentence=(
                f"The objects look {what} (about {told:.0f} px across) than those that {self.card.id} knows "
                f"({known[0]:g} to {known[1]:g} px): {advice} the image first, or look closely."
            ),
            numbers={"diameter_px": round(told, 1)},
        )  # fmt: skip


_WORDS: dict[str, tuple[str, str]] = {
    "size_px": ("its structures are larger", "its structures are smaller"),
    "noise": ("it is noisier", "it has less noise"),
    "slope": ("it has more fine texture", "it has less fine texture"),
    "skew": ("its bright parts are rarer", "more of it is bright than dark: are the objects dark?"),
    "ground": ("it has more empty ground", "it has less empty ground"),
    "levels": ("it has more grey levels", "it has fewer grey levels"),
}
"""Trait → what it means to lie above, and below, the range."""


def strange_sentence(found: list[Outside], model_id: str) -> str:
    """Say what is unlike the training images.

    >>> strange_sentence([Outside("noise", 0.5, 0.01, 0.2)], "nunet")
    'This image is unlike those that nunet learned from: it is noisier (0.5; there 0.01 to 0.2).'
    """
    parts = []
    for one in found:
        words = _WORDS[one.trait][0 if one.is_above else 1]
        parts.append(f"{words} ({one.value:.3g}; there {one.low:.3g} to {one.high:.3g})")
    return f"This image is unlike those that {model_id} learned from: {'; '.join(parts)}."
