"""Curves of a training, smoothed, and what is wrong with them in words.

References
----------
.. [1] Lim et al., "NU-Net", 2023, Sec. 3: in a good training the morphological loss falls, while the content loss
   dips first (the network learns to show the image) and then rises (morphology takes over).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Finding", "judge", "smooth"]

DECAY = 0.97
N_LEAST = 60
"""Updates before anything is judged; the smoothed curves have forgotten their start by then."""
MORPHOLOGY_FALL = 0.98
"""From random weights the smoothed morphological loss must have fallen below this share of its start."""
MORPHOLOGY_RISE = 1.10
"""After fine-tuning it may not have risen above this share of its start."""
CONTENT_DIP = 0.95
"""From random weights the smoothed content loss must have been below this share of its start at least once."""
CONTENT_RUNAWAY = 2.0
"""The smoothed content loss may not exceed this multiple of its start."""
N_WORSE, WORSE = 3, 1.03
"""Overfit: so many validations in a row above this multiple of the best one, while the training loss fell."""

Kind = Literal["not finite", "morphology", "content", "overfit"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not behave, and a sentence that says what to do."""

    kind: Kind
    sentence: str


def smooth(values: Sequence[float], decay: float = DECAY) -> NDArray[np.float64]:
    """Exponentially weighted mean with bias correction; same length.

    >>> smooth([2.0, 2.0, 2.0]).round(6).tolist()
    [2.0, 2.0, 2.0]
    """
    out = np.zeros(len(values))
    mean = 0.0
    for i, value in enumerate(values):
        mean = decay * mean + (1.0 - decay) * value
        out[i] = mean / (1.0 - decay ** (i + 1))
    return out


def judge(
    history: Sequence[Mapping[str, float]], *, is_fine_tuning: bool = False, is_diverged: bool = False
) -> list[Finding]:
    """Look for what commonly goes wrong in a training of NU-Net.

    Parameters
    ----------
    history : sequence of mapping
        One row per update with ``total`` and, where they were computed, ``style`` (morphological) and ``content``;
        ``val_total`` where a validation took place.
    is_fine_tuning : bool
        The start was a trained network: its morphological loss is small already and must merely not rise.
    is_diverged : bool
        The loop ended because the loss was not a number.

    Returns
    -------
    list of Finding
        Empty while all is well, and before 60 updates (a loss that is not finite is always told).

    Notes
    -----
    On means smoothed with a decay of 0.97, the start being the value after the first 30 updates: the
    morphological loss must be below 0.98 of its start (fine-tuning: below 1.10); the content loss must have
    dipped below 0.95 of its start (not asked of fine-tuning) and may not exceed twice its start; three validations in
    a row more than 3 % above the best one, while the smoothed training loss fell, are overfitting.
    """
    if is_diverged or any(not np.isfinite(row["total"]) for row in history if "total" in row):
        return [
            Finding(
                "not finite",
                "The loss is no longer a number; the best filter so far is kept. Lower the learning rate to a "
                "tenth, and look for broken images.",
            )
        ]
    if len(history) < N_LEAST:
        return []
    findings = [_judge_morphology(history, is_fine_tuning), _judge_content(history, is_fine_tuning)]
    return [found for found in (*findings, _judge_validation(history)) if found is not None]


def _smoothed(history: Sequence[Mapping[str, float]], name: str) -> NDArray[np.float64] | None:
    """Smoothed from the start on; None where the loss was not computed often enough."""
    values = [row[name] for row in history if name in row]
    return smooth(values)[N_LEAST // 2 - 1 :] if len(values) >= N_LEAST else None


def _judge_morphology(history: Sequence[Mapping[str, float]], is_fine_tuning: bool) -> Finding | None:
    curve = _smoothed(history, "style")
    if curve is None:
        return None
    if is_fine_tuning and curve[-1] > MORPHOLOGY_RISE * curve[0]:
        return Finding(
            "morphology",
            "The morphological loss rises: the filter unlearns its blobs. Check the object diameter and "
            "“Objects are dark”, or lower the learning rate.",
        )
    if not is_fine_tuning and curve[-1] > MORPHOLOGY_FALL * curve[0]:
        return Finding(
            "morphology",
            "The morphological loss does not fall: the filter does not learn the shape of the masks. Check the "
            "object diameter and the mask bank; if both are right, wait for more updates.",
        )
    return None


def _judge_content(history: Sequence[Mapping[str, float]], is_fine_tuning: bool) -> Finding | None:
    curve = _smoothed(history, "content")
    if curve is None:
        return None
    if curve[-1] > CONTENT_RUNAWAY * curve[0]:
        return Finding(
            "content",
            "The content loss has more than doubled: the filter no longer shows what is in the image. Stop, and "
            "use a smaller learning rate or fewer updates.",
        )
    if not is_fine_tuning and curve.min() > CONTENT_DIP * curve[0]:
        return Finding(
            "content",
            "The content loss has not dipped yet: the filter does not show the image so far. Wait for more "
            "updates; if it stays so, check “Objects are dark” and the channels.",
        )
    return None


def _judge_validation(history: Sequence[Mapping[str, float]]) -> Finding | None:
    checked = [(i, row["val_total"]) for i, row in enumerate(history) if "val_total" in row]
    if len(checked) <= N_WORSE:
        return None
    best, lowest = min(checked, key=lambda pair: pair[1])
    last = checked[-N_WORSE:]
    training = smooth([row["total"] for row in history])
    if last[0][0] > best and all(v > WORSE * lowest for _, v in last) and training[-1] < training[best]:
        step = int(history[best].get("step", best + 1))
        return Finding(
            "overfit",
            f"The validation loss has risen since update {step} while the training loss falls: the filter learns "
            "your images by heart. You can stop; the best filter is kept.",
        )
    return None
