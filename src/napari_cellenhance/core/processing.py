"""Steps before and after a network as packages of the BioImage Model Zoo describe them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.normalize import percentiles

__all__ = ["KNOWN_STEPS", "MEASURED_STEPS", "Affine", "Step", "apply_steps", "measure_steps", "steps_of"]

KNOWN_STEPS: Final[Mapping[str, Mapping[str, float]]] = {
    "binarize": {"threshold": 0.5},
    "clip": {"min": -np.inf, "max": np.inf},
    "fixed_zero_mean_unit_variance": {"mean": 0.0, "std": 1.0},
    "scale_linear": {"gain": 1.0, "offset": 0.0},
    "scale_range": {"min_percentile": 0.0, "max_percentile": 100.0, "eps": 1e-6},
    "sigmoid": {},
    "softmax": {},
    "zero_mean_unit_variance": {"eps": 1e-6},
}
"""Steps by name, and the settings each takes with their defaults."""
MEASURED_STEPS: Final = ("scale_range", "zero_mean_unit_variance")
"""Those that look at the whole image first."""

Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Parameters
    ----------
    name : str
        One of ``KNOWN_STEPS``.
    settings : dict of str to float

    Raises
    ------
    ParameterError
        A step or a setting that this version does not know, or one that makes no sense.
    """

    name: str
    settings: dict[str, float]

    def __post_init__(self) -> None:
        if self.name not in KNOWN_STEPS:
            raise ParameterError(
                f"the model asks for the processing step {self.name!r}, which this version does not know; it knows "
                f"{', '.join(KNOWN_STEPS)}"
            )
        unknown = sorted(set(self.settings) - set(KNOWN_STEPS[self.name]))
        if unknown:
            raise ParameterError(f"the processing step {self.name!r} has no setting {unknown[0]!r}")
        low, high = self["min_percentile"], self["max_percentile"]
        if self.name == "scale_range" and not 0.0 <= low < high <= 100.0:
            raise ParameterError(f"scale_range has the percentiles {low:g} and {high:g}; expected 0 ≤ low < high ≤ 100")

    def __getitem__(self, setting: str) -> float:
        """Value of a setting, or its default; NaN for one that other steps have."""
        return float(self.settings.get(setting, KNOWN_STEPS[self.name].get(setting, np.nan)))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"name": self.name, **self.settings}


@dataclass(frozen=True, slots=True)
class Affine:
    """x → (x − shift) / scale: a step whose measuring is done."""

    shift: float
    scale: float

    def __call__(self, x: Pixels) -> Pixels:
        """Apply to any shape."""
        return np.asarray((x - np.float32(self.shift)) / np.float32(self.scale), np.float32)


def steps_of(described: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """Inverse of :meth:`Step.to_dict`, for several.

    Raises
    ------
    ParameterError
        As :class:`Step`; settings that are no numbers.
    """
    found = []
    for one in described:
        try:
            settings = {str(k): float(v) for k, v in one.items() if k != "name"}
        except (TypeError, ValueError) as error:
            raise ParameterError(
                f"the processing step {one.get('name')!r} has settings that are no single numbers"
            ) from error
        found.append(Step(str(one.get("name")), settings))
    return tuple(found)


def measure_steps(steps: Sequence[Step], planes: Sequence[Pixels]) -> list[Affine | None]:
    """What the measured steps find on whole planes pooled, each after the steps before it; None for the others.

    Parameters
    ----------
    planes : sequence of ndarray
        Finite; not modified.
    """
    found: list[Affine | None] = []
    current = list(planes)
    last = max((i for i, step in enumerate(steps) if step.name in MEASURED_STEPS), default=-1)
    for step in steps[: last + 1]:
        affine = _measure(step, current) if step.name in MEASURED_STEPS else None
        found.append(affine)
        current = [_apply(step, affine, plane, 0) for plane in current]
    return found + [None] * (len(steps) - len(found))


def apply_steps(
    steps: Sequence[Step], measured: Sequence[Affine | None], image: Pixels, channel_axis: int = 0
) -> Pixels:
    """Apply steps to an image of any shape; ``measured`` is what :func:`measure_steps` found."""
    for step, affine in zip(steps, measured, strict=True):
        image = _apply(step, affine, image, channel_axis)
    return image


def _measure(step: Step, planes: Sequence[Pixels]) -> Affine:
    if step.name == "scale_range":
        values = planes[0].ravel() if len(planes) == 1 else np.concatenate([plane.ravel() for plane in planes])
        low, high = percentiles(values, (step["min_percentile"], step["max_percentile"]))
        return Affine(low, high - low + step["eps"])
    n = sum(plane.size for plane in planes)
    mean = sum(float(plane.sum(dtype=np.float64)) for plane in planes) / n
    square = sum(float(np.square(plane - mean, dtype=np.float64).sum()) for plane in planes) / n
    return Affine(mean, float(np.sqrt(square)) + step["eps"])


def _apply(step: Step, affine: Affine | None, x: Pixels, channel_axis: int) -> Pixels:
    if affine is not None:
        return affine(x)
    return np.asarray(_FIXED[step.name](step, x, channel_axis), np.float32)


def _softmax(_step: Step, x: Pixels, channel_axis: int) -> Pixels:
    e = np.exp(x - x.max(axis=channel_axis, keepdims=True))
    return np.asarray(e / e.sum(axis=channel_axis, keepdims=True), np.float32)


_FIXED: Mapping[str, Callable[[Step, Pixels, int], Any]] = {
    "binarize": lambda step, x, _: x > step["threshold"],
    "clip": lambda step, x, _: np.clip(x, step["min"], step["max"]),
    "fixed_zero_mean_unit_variance": lambda step, x, _: (x - np.float32(step["mean"])) / np.float32(step["std"]),
    "scale_linear": lambda step, x, _: x * np.float32(step["gain"]) + np.float32(step["offset"]),
    "sigmoid": lambda _s, x, _c: 0.5 * (1.0 + np.tanh(0.5 * x)),
    "softmax": _softmax,
}
