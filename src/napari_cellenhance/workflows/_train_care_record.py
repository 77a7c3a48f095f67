"""What a training of a restoration leaves besides checkpoint and history: scores, calibration, weights, card, log."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellenhance.workflows._train_care_setup import aside
from napari_cellenhance.workflows._train_ranges import input_ranges, planes_of
from napari_cellenhance.workflows.synthesize import group_of, preview_png

if TYPE_CHECKING:
    from napari_cellenhance.core.training import FitState
    from napari_cellenhance.workflows._train_care_setup import CareSetup
    from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["measure", "publish", "write_exposures"]

CITATION = "Weigert et al., Content-aware image restoration, Nat. Methods 15, 2018"
MEASURED_PX = 2_000_000
"""Pixels of the validation images that are restored as a whole to measure on."""
_SUMMARY = "Restores images that are noisy and blurred; learned from pairs of poor and clean images."
_STRENGTH_HELP = "0 shows the image itself, 1 what the network makes of it."


def measure(setup: CareSetup) -> dict[str, float]:
    """Errors on whole images that were kept aside, and how the scale has to be calibrated.

    Returns
    -------
    dict of str to float
        ``mae`` and ``mae_of_input`` in normalised units; of a likelihood also ``factor`` (of the scale),
        ``within_half_before`` and ``within_half`` (share of pixels within σ·ln 2), ``n_px``.
    """
    from napari_cellenhance.core.recipes.care import calibration_of, within_half
    from napari_cellenhance.core.recipes.restorer import Restorer

    restorer = Restorer(setup.module, setup.choice)
    errors, scales, before = [], [], []
    for poor, clean in aside(setup, MEASURED_PX):
        found = restorer.restore(poor)
        errors.append((found.mean - clean).ravel())
        before.append((poor - clean).ravel())
        if found.scale is not None:
            scales.append(found.scale.ravel())
    error = np.concatenate(errors)
    scores = {"mae": float(np.abs(error).mean()), "mae_of_input": float(np.abs(np.concatenate(before)).mean())}
    if scales:
        scale = np.concatenate(scales)
        factor = max(1e-3, calibration_of(error, scale))
        scores |= {
            "factor": factor, "within_half_before": within_half(error, scale),
            "within_half": within_half(error, factor * scale),
        }  # fmt: skip
    return scores | {"n_px": float(error.size)}


def write_exposures(setup: CareSetup) -> Path | None:
    """Write ``exposures.json`` (how poor images were made, and every value that was drawn) and ``preview.png``.

    None for real pairs.
    """
    from napari_cellenhance.io.reports import write_json

    if not setup.exposures:
        return None
    record = {"synthesis": setup.request.synthesis.to_dict(), "seed": setup.request.seed, "pairs": setup.exposures}
    out = Path(setup.request.out)
    preview_png(out / "preview.png", setup.made, setup.request.seed)
    return write_json(out / "exposures.json", record)


def publish(setup: CareSetup, state: FitState, stopped: str, scores: Mapping[str, float]) -> ModelCard:
    """Write weights and card of the best checkpoint; put the model where the doors find it."""
    from napari_cellenhance.zoo.weights import save_user_model

    request, module, settings = setup.request, setup.module, setup.recipe.settings
    card = {
        "id": request.model_id,
        "title": request.title,
        "summary": _SUMMARY,
        "version": "1.0.0",
        "recipe": "care",
        "architecture": module.architecture,
        "normalization": {
            "name": "percentile",
            "parameters": {"lo": settings.lo, "hi": settings.hi, "clip": False},
        },
        "strength": {"minimum": 0.0, "maximum": 1.0, "default": 1.0, "knots": [1.0], "help": _STRENGTH_HELP},
        "axes": "YX" if request.n_dims == 2 else "ZYX",
        "license": "BSD-3-Clause",
        "citation": CITATION,
        "input_ranges": input_ranges(planes_of([pair.poor for pair in setup.pairs]), request.init_from),
        "training": _training(setup, state, stopped, scores),
        "scores": {"validation_loss": state.best_total, **scores},
    }
    state_dict = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    saved = save_user_model(state_dict, card, folder=Path(request.out))
    if request.install:
        save_user_model(state_dict, card)
    return saved


def _training(setup: CareSetup, state: FitState, stopped: str, scores: Mapping[str, float]) -> dict[str, Any]:
    import torch

    request = setup.request
    calibration = {k: scores[k] for k in ("factor", "within_half_before", "within_half", "n_px") if k in scores}
    return {
        "data": _data(setup),
        "data_sha256": hashlib.sha256(setup.identity.encode()).hexdigest(),
        "kept_aside": sorted({pair.group for pair in setup.recipe.kept_aside}),
        "is_split_in_space": setup.recipe.is_split_in_space,
        "left_out": list(setup.recipe.left_out),
        "calibration": calibration if "factor" in calibration else None,
        "synthesis": request.synthesis.to_dict() if setup.exposures else None,
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


def _data(setup: CareSetup) -> list[dict[str, Any]]:
    """Pairs by the name of their layer, file or source."""
    counts: dict[str, list[int]] = {}
    for pair in setup.pairs:
        entry = counts.setdefault(group_of(pair.group), [0, 0])
        entry[0] += 1
        entry[1] += int(pair.clean.size)
    return [{"name": name, "n_pairs": n, "n_px": px} for name, (n, px) in counts.items()]
