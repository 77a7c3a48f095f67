"""What a training of NU-Net leaves besides checkpoint and history: weights, style bank and model card."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.workflows._train_ranges import input_ranges
from napari_cellenhance.workflows._train_setup import STYLE_BANK_ASSET

if TYPE_CHECKING:
    from napari_cellenhance.core.training import FitState
    from napari_cellenhance.workflows._train_setup import Setup
    from napari_cellenhance.workflows.train import TrainRequest
    from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["publish"]

_N_LOOKED_AT = 60
"""Crops that tell what the network learned from."""
SUMMARY = "Self-supervised blob filter with adjustable strength: objects bright, ground dark."
GUIDED_SUMMARY = (
    "Blob filter with adjustable strength, also taught by outlined objects: weak objects come up, touching ones part."
)


def publish(request: TrainRequest, setup: Setup, state: FitState, stopped: str) -> ModelCard:
    """Write weights, style bank and card of the best checkpoint; put the model where the doors find it."""
    import torch

    from napari_cellenhance.zoo.weights import save_state, save_user_model

    out, module, settings, bank = Path(request.out), setup.module, setup.settings, setup.recipe.bank
    if bank is not None:
        bank_path = out / f"{STYLE_BANK_ASSET}.safetensors"
        save_state(bank_path, bank.to_tensors(), metadata={"perception": bank.perception_id})
    knots = list(module.knots)
    low = knots[0] if knots else float(request.strength or 0.0)
    high = knots[-1] if knots else float(request.strength or 0.0)
    card = {
        "id": request.model_id,
        "title": request.title,
        "summary": SUMMARY if settings.paired == 0 else GUIDED_SUMMARY,
        "version": "1.0.0",
        "recipe": "nunet",
        "architecture": {
            "name": "nunet", "conditioning": module.conditioning, "knots": knots, "output": module.output,
            "norm": module.norm,
        },
        "normalization": {"name": "percentile", "parameters": {"lo": 0.1, "hi": 99.9}},
        "strength": {
            "minimum": 0.0, "maximum": high, "default": min(5.0, high) if knots else high,
            "knots": knots or [high], "identity_below": low,
        },
        "axes": "YX",
        "license": "BSD-3-Clause",
        "citation": "Lim et al., NU-Net: a self-supervised smart filter for enhancing blobs in bioimages, ICCVW 2023",
        "object_diameter_px": list(settings.diameters_px),
        "input_ranges": input_ranges(_given(setup, request.seed), request.init_from),
        "training": {
            "data": [{"name": s.name, "n_images": len(s.images)} for s in setup.sources],
            "perception": "none" if bank is None else bank.perception_id,
            "style_groups": 0 if bank is None else bank.n_groups,
            "balance_factor": setup.recipe.balance_factor,
            "recipe": json.loads(json.dumps(asdict(settings))),
            "fit": asdict(setup.fit_settings),
            "precision": "bfloat16 autocast" if setup.recipe.use_bf16 else "float32",
            "init_from": request.init_from,
            "steps_done": state.step,
            "best_step": state.best_step,
            "best_validation_total": state.best_total,
            "stopped": stopped,
            "elapsed_s": round(state.elapsed_s),
            "hardware": f"{setup.recipe.device}; {os.cpu_count()} CPU cores, {platform.machine()}",
            "torch": str(torch.__version__),
            "finished_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "scores": {},
    }  # fmt: skip
    state_dict = {k: v.contiguous() for k, v in module.state_dict().items()}
    saved = save_user_model(state_dict, card, half=True, folder=out)
    if request.install:
        save_user_model(state_dict, card, half=True)
    return saved


def _given(setup: Setup, seed: int) -> list[NDArray[Any]]:
    """Crops as the network is fed with them: resized, some of them made poor."""
    from napari_cellenhance.core.augment import degrade
    from napari_cellenhance.core.sources import sample_crop

    rng, s = np.random.default_rng([seed, 8]), setup.settings
    crops = [sample_crop(setup.sources, s.crop_px, rng, diameters=s.diameters_px).image for _ in range(_N_LOOKED_AT)]
    return [degrade(crop, rng) if rng.random() < s.degraded_fraction else crop for crop in crops]
