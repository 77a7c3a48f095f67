"""What a training of VoidSeg leaves besides checkpoint and history: the weights and the model card."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellenhance.workflows._train_ranges import input_ranges

if TYPE_CHECKING:
    from napari_cellenhance.core.training import FitState
    from napari_cellenhance.workflows._train_voidseg_setup import Search, VoidSegSetup
    from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["publish"]

CITATIONS = {
    "unet": "Prakash et al., Leveraging Self-supervised Denoising for Image Segmentation, ISBI 2020",
    "stardist": "Schmidt et al., Cell Detection with Star-Convex Polygons, MICCAI 2018",
}
_SEEN = {True: "what the denoiser {0} makes of the image", False: "the image itself"}


def publish(setup: VoidSegSetup, state: FitState, stopped: str, search: Search) -> ModelCard:
    """Write weights and card of the best checkpoint; put the model where the doors find it.

    Weights are stored in 32 bits: the frozen denoiser among them stays what it was, to the last bit.
    """
    from napari_cellenhance.zoo.weights import save_user_model

    request, is_stars = setup.request, setup.request.network == "stardist"
    seen = _SEEN[request.is_sequential].format(request.denoiser)
    classes = [{"value": 1, "name": "background"}, {"value": 2, "name": request.object_name}]
    card = {
        "id": request.model_id,
        "title": request.title,
        "summary": f"Finds each {request.object_name} by {'stars' if is_stars else 'three classes'} in {seen}.",
        "version": "1.0.0",
        "recipe": "stardist" if is_stars else "voidseg",
        "architecture": setup.network.architecture,
        "normalization": setup.normalization,
        "strength": {"minimum": 0.0, "maximum": 1.0, "default": 1.0, "knots": [1.0]},
        "axes": "YX",
        "license": "BSD-3-Clause",
        "citation": CITATIONS[request.network],
        "classes": classes if is_stars else [*classes, {"value": 3, "name": "border"}],
        "threshold": search.threshold,
        "input_ranges": input_ranges([one.plane for one in setup.images], None),
        "training": _training(setup, state, stopped),
        "scores": {
            "held_out": setup.held_out,
            "average_precision": max(search.scores),
            "average_precision_by_threshold": dict(
                zip(map(str, search.thresholds), map(float, search.scores), strict=True)
            ),
            "validation_total": state.best_total,
        },
    }
    state_dict = {k: v.detach().cpu().contiguous() for k, v in setup.network.state_dict().items()}
    saved = save_user_model(state_dict, card, folder=Path(request.out))
    if request.install:
        save_user_model(state_dict, card)
    return saved


def _training(setup: VoidSegSetup, state: FitState, stopped: str) -> dict[str, Any]:
    import torch

    request = setup.request
    recipe: Any = setup.recipe
    return {
        "data": _data(setup),
        "data_sha256": hashlib.sha256(setup.identity.encode()).hexdigest(),
        "n_labelled": len(setup.images),
        "n_given": setup.n_given,
        "scheme": request.scheme,
        "denoiser": None if setup.denoiser is None else setup.denoiser.record(),
        "network": request.network,
        "recipe": json.loads(json.dumps(asdict(recipe.settings))),
        "fit": asdict(setup.fit_settings),
        "precision": "bfloat16 autocast" if setup.choice.precision == "bfloat16" else "float32",
        "steps_done": state.step,
        "best_step": state.best_step,
        "stopped": stopped,
        "elapsed_s": round(state.elapsed_s),
        "hardware": f"{setup.choice.torch_device}; {os.cpu_count()} CPU cores, {platform.machine()}",
        "torch": str(torch.__version__),
        "finished_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _data(setup: VoidSegSetup) -> list[dict[str, Any]]:
    """Images by the name of their layer, file or source."""
    counts: dict[str, list[int]] = {}
    for one in setup.images:
        entry = counts.setdefault(one.name.rsplit(", ", 1)[0], [0, 0])
        entry[0] += 1
        entry[1] += int((one.labels > 0).sum())
    return [{"name": name, "n_planes": n, "n_labelled_px": px} for name, (n, px) in counts.items()]
