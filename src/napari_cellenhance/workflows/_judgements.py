"""Numbers of the guards as words of a traffic light and sentences for a biologist."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.doubt import contrast_of, doubt_labels
from napari_cellenhance.core.object_support import SupportCheck
from napari_cellenhance.core.residuals import ResidualCheck
from napari_cellenhance.workflows.input_guards import Finding, Level

__all__ = ["judge_objects", "judge_residual", "judge_uncertainty"]


def judge_residual(found: ResidualCheck) -> Finding:
    """Say what is left in a residual."""
    removed, added, texture = (found.count(kind) for kind in ("removed", "added", "texture"))
    numbers = {
        "p": found.p, "n_removed": removed, "n_added": added, "n_texture": texture,
        "variance_ratio": round(found.variance_ratio, 3), "autocorrelation": round(found.autocorrelation, 3),
        "correlation": round(found.correlation, 3), "noise_sigma": round(found.noise.sigma, 4),
    }  # fmt: skip
    if removed or added:
        parts = [f"{n} {word}" for n, word in ((removed, "less"), (added, "more")) if n]
        places = "place" if removed + added == 1 else "places"
        sentence = (
            f"The difference is no mere noise: the result holds {' and '.join(parts)} light than the image at "
            f"{removed + added} {places}. Something may have been {_done(removed, added)}."
        )
        return Finding(guard="residual", level="doubt", sentence=sentence, numbers=numbers)
    if texture:
        sentence = f"The fine texture differs by more than noise at {texture} place{'' if texture == 1 else 's'}."
        return Finding(guard="residual", level="look", sentence=sentence, numbers=numbers)
    return Finding(
        guard="residual", level="fine", numbers=numbers,
        sentence="What was taken away holds no structure above a tenth of the contrast.",
    )  # fmt: skip


def _done(removed: int, added: int) -> str:
    return "removed and added" if removed and added else "removed" if removed else "added"


def judge_objects(found: SupportCheck) -> Finding:
    """Say which objects are in one picture only."""
    numbers = {"n_objects": found.n_objects, "n_lost": found.n_lost, "n_unsupported": found.n_unsupported}
    if not found.is_flagged:
        sentence = (
            f"All {found.n_objects} objects of the result are in the image, and the clear ones of the image in it."
        )
        return Finding(guard="objects", level="fine", sentence=sentence, numbers=numbers)
    parts = []
    if found.n_unsupported:
        parts.append(f"{found.n_unsupported} of {found.n_objects} objects of the result are not shown by the image")
    if found.n_lost:
        objects = "clear object of the image is" if found.n_lost == 1 else "clear objects of the image are"
        parts.append(f"{found.n_lost} {objects} not in the result")
    return Finding(guard="objects", level="doubt", sentence=f"{'; '.join(parts)}.", numbers=numbers)


def judge_uncertainty(scale: NDArray[Any], result: NDArray[Any], share: float) -> Finding:
    part = float(doubt_labels(np.asarray(scale, np.float32), contrast_of(result.astype(np.float32)), share).mean())
    level: Level = "fine" if part < 0.005 else "look" if part < 0.05 else "doubt"
    return Finding(
        guard="uncertainty", level=level,
        sentence=(
            f"The network's own likely error exceeds {100 * share:g} % of the contrast in {100 * part:.2g} % of pixels."
        ),
        numbers={"share": round(part, 4)},
    )  # fmt: skip
