"""The loss of StarDist: is there an object, and how far is its border along each ray.

References
----------
.. [1] Schmidt et al., MICCAI 2018 (StarDist): cross entropy, and distances weighed by the probability.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.models.stardist import StarOutput

__all__ = ["star_loss"]

DISTANCE_WEIGHT = 0.2
GROUND_WEIGHT = 1e-4
_LEAST_SUM = 1e-6


def star_loss(
    output: StarOutput,
    distances: Tensor,
    probabilities: Tensor,
    mask: Tensor,
    *,
    distance_weight: float = DISTANCE_WEIGHT,
    ground_weight: float = GROUND_WEIGHT,
    is_normalised: bool = True,
) -> dict[str, Tensor]:
    """Cross entropy of the probability, masked absolute error of the distances, and a pull to 0 on the ground.

    Parameters
    ----------
    output : StarOutput
    distances : Tensor of shape (N, n_rays, Y, X)
        Wanted, in pixels.
    probabilities : Tensor of shape (N, Y, X)
        Wanted, 0 to 1.
    mask : Tensor of bool, shape (N, Y, X)
        Where both are known; all other pixels have exactly zero gradient.
    distance_weight, ground_weight : float
        Of the distances against the cross entropy, and of the ground against the distances.
    is_normalised : bool
        Divide the error of the distances by the mean probability wanted, as later versions of the public code do;
        the code of 2019 does not.

    Returns
    -------
    dict of str to Tensor of shape ()
        ``total`` = ``probability`` + distance_weight · (``distance`` + ground_weight · ``ground``); 0 with zero
        gradients where nothing is known.

    Raises
    ------
    ParameterError
        Shapes that do not fit.

    Notes
    -----
    BCE(p̂) + 0.2 · [mean(p·|d − d̂|) / mean(p) + 1e-4 · mean((1 − p)·|d̂|)], each mean over the known pixels (and the
    rays), while the public code divides by all pixels: with little paint that would slow the learning down.
    """
    if output.distances.shape != distances.shape or output.logits.shape[2:] != probabilities.shape[1:]:
        raise ParameterError(
            f"targets have shapes {tuple(distances.shape)} and {tuple(probabilities.shape)}, the predictions "
            f"{tuple(output.distances.shape)} and {tuple(output.logits.shape)}; expected the same rays and pixels"
        )
    if mask.shape != probabilities.shape or len(probabilities) != len(distances):
        raise ParameterError(f"the mask has shape {tuple(mask.shape)}, the probabilities {tuple(probabilities.shape)}")
    known = mask.to(distances.dtype)
    n_known = known.sum().clamp_min(1)
    weights = probabilities * known
    entropy = F.binary_cross_entropy_with_logits(
        output.logits[:, 0].float(), probabilities, weight=known, reduction="sum"
    )
    error = (weights * (output.distances - distances).abs().mean(dim=1)).sum()
    ground = ((known - weights) * output.distances.abs().mean(dim=1)).sum()
    parts = {
        "probability": entropy / n_known,
        "distance": error / (weights.sum().clamp_min(_LEAST_SUM) if is_normalised else n_known),
        "ground": ground / n_known,
    }
    total = parts["probability"] + distance_weight * (parts["distance"] + ground_weight * parts["ground"])
    return {"total": total, **parts}
