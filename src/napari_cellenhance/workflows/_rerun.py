"""A model run again on copies of a plane that must give the same: turned, flipped, and with half the information."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core import half_inputs
from napari_cellenhance.core.doubt import contrast_of
from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.noise_model import estimate_noise
from napari_cellenhance.io.images import ImageFile
from napari_cellenhance.workflows._batch_steps import Machine, OpenedRecipe, open_recipe
from napari_cellenhance.workflows.batch_recipe import Recipe, Step, title_of
from napari_cellenhance.workflows.input_guards import Finding, Level
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress
from napari_cellenhance.workflows.sample_guards import keeps_grey
from napari_cellenhance.zoo.manifest import list_models

__all__ = ["Agreement", "Rerun", "agreement_of"]

_N_RUNS = half_inputs.N_SYMMETRIES + 4

NamedMap = tuple[str, NDArray[Any], bool, float, str]
"""Name, pixels, whether it is labels, limit, meaning."""


class Rerun:
    """One step, opened, and the plane it is tried on."""

    def __init__(
        self, step: Step, machine: Machine, plane: NDArray[Any], on_progress: OnProgress, is_cancelled: IsCancelled
    ) -> None:
        self.plane, self.on_progress, self.is_cancelled = plane, on_progress, is_cancelled
        card = next((each for each in list_models() if each.id == title_of(step)), None)
        self.keeps_grey = card is not None and keeps_grey(card)
        self.opened: OpenedRecipe = open_recipe(Recipe(steps=(step,)), machine, on_progress)
        self._n_done = 0

    def make(self, plane: NDArray[Any]) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
        """What the step makes of a plane, and the pictures beside it."""
        from napari_cellenhance.core.inference import Cancelled

        if self.is_cancelled():
            raise Cancelled
        self.on_progress(Progress(n_done=self._n_done, n_total=_N_RUNS, message="Running the model again"))
        made = self.opened.apply(ImageFile(image=plane, axes="YX"), Path("check"), self._watch)
        self._n_done = min(_N_RUNS, self._n_done + 1)
        if made.pixels.shape != plane.shape:
            raise ImageError(f"the model makes a picture of shape {made.pixels.shape} of a plane of {plane.shape}")
        return np.asarray(made.pixels, np.float32), {name: pixels for name, (pixels, _) in made.beside.items()}

    def _watch(self, progress: Progress) -> None:
        from napari_cellenhance.core.inference import Cancelled

        if self.is_cancelled():
            raise Cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far the results agree."""

    findings: tuple[Finding, ...] = ()
    maps: tuple[NamedMap, ...] = ()
    beside: dict[str, NDArray[Any]] = field(default_factory=dict)
    is_complete: bool = True


def agreement_of(rerun: Rerun, share: float, gain: float | None, offset: float) -> Agreement:
    """Run on eight turned copies, on the fields of a checkerboard, and on split photons or noise."""
    from napari_cellenhance.core.inference import Cancelled

    findings: list[Finding] = []
    maps: list[NamedMap] = []
    beside: dict[str, NDArray[Any]] = {}
    try:
        results: list[NDArray[Any]] = []
        for copy, back in half_inputs.symmetries(rerun.plane):
            made, pictures = rerun.make(copy)
            if not results:
                beside = pictures
            results.append(back(made))
        contrast = float(contrast_of(results[0]).max()) or 1.0
        found, picture = _of_spread(results, contrast, share, _KEEPING if rerun.keeps_grey else _CHANGING)
        findings.append(found)
        maps.append(picture)
        for name, halves in _halves(rerun.plane, gain, offset):
            first, second = (rerun.make(half)[0] for half in halves)
            found, picture = _of_halves(name, first, second, contrast, share)
            findings.append(found)
            maps.append(picture)
    except Cancelled:
        return Agreement(findings=tuple(findings), maps=tuple(maps), beside=beside, is_complete=False)
    return Agreement(findings=tuple(findings), maps=tuple(maps), beside=beside)


def _halves(
    plane: NDArray[Any], gain: float | None, offset: float
) -> list[tuple[str, tuple[NDArray[np.float32], NDArray[np.float32]]]]:
    rng = np.random.default_rng(0)
    if gain is not None:
        split = ("halves of the photons", half_inputs.photon_halves(plane, gain, offset, rng))
    else:
        split = ("images with more noise", half_inputs.noise_halves(plane, estimate_noise(plane), rng))
    return [("halves of the pixels", half_inputs.checkerboard_halves(plane)), split]


def _level(part: float, look: float, doubt: float) -> Level:
    return "fine" if part < look else "look" if part < doubt else "doubt"


@dataclass(frozen=True, slots=True)
class _SpreadLimits:
    """When the standard deviation over turned copies is told: a network errs much in the same way eight times.

    Chosen on one half of test images, see ``docs/trust.md``: the largest share of wrong pixels that is found while at
    most 5 % of the right ones are called wrong; and shares of pixels by which wrong results are told from right ones.
    """

    of_share: float
    """Of the share of the contrast that counts as wrong."""
    look: float
    doubt: float


_KEEPING, _CHANGING = _SpreadLimits(0.2, 0.01, 0.1), _SpreadLimits(0.5, 0.05, 0.1)
"""For results in the grey values of the image, and for those that change the contrast."""


def _of_spread(
    results: list[NDArray[np.float32]], contrast: float, share: float, limits: _SpreadLimits
) -> tuple[Finding, NamedMap]:
    spread = half_inputs.spread(results) / np.float32(contrast)
    least = limits.of_share * share
    part = float((spread > least).mean())
    finding = Finding(
        guard="spread", level=_level(part, limits.look, limits.doubt),
        sentence=(
            f"Turned and flipped, the image gives results that scatter by more than {100 * least:g} % of the contrast "
            f"in {100 * part:.2g} % of pixels."
        ),
        numbers={"share": round(part, 4), "limit": round(least, 4), "median": round(float(np.median(spread)), 4)},
    )  # fmt: skip
    meaning = "standard deviation over 8 turned and flipped runs, as a share of the contrast"
    return finding, ("spread", spread, False, max(2 * least, 1e-6), meaning)


def _of_halves(
    name: str, first: NDArray[np.float32], second: NDArray[np.float32], contrast: float, share: float
) -> tuple[Finding, NamedMap]:
    found = half_inputs.compare_halves(first, second, contrast, share=share)
    alone = found.n_alone / max(1, found.n_objects)
    is_many = alone > 0.05 and found.n_alone > 1
    level: Level = "doubt" if is_many else "look" if found.n_alone or found.doubtful > 0.05 else "fine"
    finding = Finding(
        guard="halves", level=level,
        sentence=(
            f"Two {name} give results of which {found.n_alone} of {found.n_objects} objects are in one only; "
            f"{100 * found.doubtful:.2g} % of pixels differ by more than {100 * share:g} % of the contrast."
        ),
        numbers={
            "of": name, "n_objects": found.n_objects, "n_alone": found.n_alone, "share": round(found.doubtful, 4)
        },
    )  # fmt: skip
    meaning = f"|first − second| of the results of two {name}, as a share of the contrast"
    return finding, (f"difference, two {name}", found.difference / np.float32(contrast), False, 2 * share, meaning)
