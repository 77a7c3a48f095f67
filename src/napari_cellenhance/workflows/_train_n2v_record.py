"""What a training of a denoiser leaves besides checkpoint and history: the weights and the model card."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellenhance.workflows._train_n2v_setup import PERCENTILES
from napari_cellenhance.workflows._train_ranges import input_ranges, planes_of

if TYPE_CHECKING:
    from napari_cellenhance.core.training import FitState
    from napari_cellenhance.workflows._train_n2v_setup import N2VSetup
    from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["publish"]

CITATIONS = {
    "n2v": "Krull et al., Noise2Void – Learning Denoising from Single Noisy Images, CVPR 2019",
    "n2v2": "Höck et al., N2V2 – Fixing Noise2Void Checkerboard Artifacts, ECCV Workshops 2022",
}
_SUMMARY = "Removes pixel noise; learned from noisy images alone, so it can only know what they show."
_STRENGTH_HELP = "0 shows the image itself, 1 what the network makes of it."


def publish(setup: N2VSetup, state: FitState, stopped: str) -> ModelCard:
    """Write weights and card of the best checkpoint; put the model where the doors find it."""
    from napari_cellenhance.zoo.weights import save_user_model

    request, module = setup.request, setup.module
    if setup.normalizer is None:
        normalization: dict[str, Any] = {"name": "percentile", "parameters": dict(PERCENTILES)}
    else:
        normalization = setup.normalizer.to_dict()
    card = {
        "id": request.model_id,
        "title": request.title,
        "summary": _SUMMARY,
        "version": "1.0.0",
        "recipe": "n2v",
        "architecture": module.architecture,
        "normalization": normalization,
        "strength": {"minimum": 0.0, "maximum": 1.0, "default": 1.0, "knots": [1.0], "help": _STRENGTH_HELP},
        "axes": "YX" if module.n_dims == 2 else "ZYX",
        "license": "BSD-3-Clause",
        "citation": CITATIONS[request.variant],
        "input_ranges": input_ranges(planes_of([one.pixels for one in setup.images]), request.init_from),
        "training": _training(setup, state, stopped),
        "scores": {"blind_spot_error": state.best_total},
    }
    state_dict = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    saved = save_user_model(state_dict, card, folder=Path(request.out))
    if request.install:
        save_user_model(state_dict, card)
    return saved


def _training(setup: N2VSetup, state: FitState, stopped: str) -> dict[str, Any]:
    import torch

    request = setup.request
    return {
        "data": _data(setup),
        "data_sha256": hashlib.sha256(setup.identity.encode()).hexdigest(),
        "variant": request.variant,
        "init_from": request.init_from,
        "recipe": json.loads(json.dumps(asdict(setup.recipe.settings))),
        "fit": asdict(setup.fit_settings),
        "precision": "bfloat16 autocast" if setup.recipe.use_bf16 else "float32",
        "steps_done": state.step,
        "best_step": state.best_step,
        "stopped": stopped,
        "elapsed_s": round(state.elapsed_s),
        "hardware": f"{setup.choice.torch_device}; {os.cpu_count()} CPU cores, {platform.machine()}",
        "torch": str(torch.__version__),
        "finished_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _data(setup: N2VSetup) -> list[dict[str, Any]]:
    """Images by the name of their layer, file or source."""
    counts: dict[str, list[int]] = {}
    for image in setup.images:
        entry = counts.setdefault(image.name.rsplit(", ", 1)[0], [0, 0])
        entry[0] += 1
        entry[1] += int(image.pixels.size)
    return [{"name": name, "n_images": n, "n_px": px} for name, (n, px) in counts.items()]
