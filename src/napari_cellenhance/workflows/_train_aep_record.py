"""What a training of AEP leaves besides checkpoint and history: the weights and the model card."""

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

from napari_cellenhance.workflows._train_ranges import input_ranges
from napari_cellenhance.workflows.painted_layers import PERCENTILES

if TYPE_CHECKING:
    from napari_cellenhance.core.training import FitState
    from napari_cellenhance.workflows._train_aep_setup import AEPSetup
    from napari_cellenhance.workflows.train_aep import AEPRequest
    from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["class_name", "publish"]

CITATION = (
    "Kato & Hotta, Automatic enhancement preprocessing for segmentation of low quality cell images, Sci. Rep. 2024"
)
_SUMMARY = "Segments {classes}, and enhances each image for it; learned from painted labels."
_STRENGTH_HELP = "0 shows the image itself, 1 what the learned filter of the first object class makes of it."
_N_ASKED = 6
"""Images that are asked which filter shows which class."""


def class_name(request: AEPRequest, value: int) -> str:
    """Name of a class as people read it."""
    fallback = "background" if value == 1 else f"class {value}"
    return str(request.class_names.get(value, fallback)).strip() or fallback


def publish(setup: AEPSetup, state: FitState, stopped: str) -> ModelCard:
    """Write weights and card of the best checkpoint; put the model where the doors find it."""
    from napari_cellenhance.zoo.weights import save_user_model

    request, module = setup.request, setup.module
    names = [class_name(request, value) for value in setup.recipe.values]
    card = {
        "id": request.model_id,
        "title": request.title,
        "summary": _SUMMARY.format(classes=_listed(names)),
        "version": "1.0.0",
        "recipe": "aep",
        "architecture": module.architecture,
        "normalization": {"name": "percentile", "parameters": dict(PERCENTILES)},
        "strength": {
            "minimum": 0.0, "maximum": 1.0, "default": 1.0, "knots": [1.0], "help": _STRENGTH_HELP,
        },
        "axes": "YX",
        "license": "BSD-3-Clause",
        "citation": CITATION,
        "classes": _classes(setup, names),
        "input_ranges": input_ranges([painted.image for painted in setup.images], request.init_from),
        "training": _training(setup, state, stopped),
        "scores": _scores(setup, state),
    }  # fmt: skip
    state_dict = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    saved = save_user_model(state_dict, card, half=True, folder=Path(request.out))
    if request.install:
        save_user_model(state_dict, card, half=True)
    return saved


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _classes(setup: AEPSetup, names: list[str]) -> list[dict[str, Any]]:
    filters = _best_filters(setup)
    colors = setup.request.class_colors
    return [
        {"value": value, "name": name, "color": str(colors.get(value, "")), "filter": filters.get(value)}
        for value, name in zip(setup.recipe.values, names, strict=True)
    ]


def _best_filters(setup: AEPSetup) -> dict[int, int]:
    """For each class the filter whose translated image stands out there most (AUROC on painted pixels)."""
    from napari_cellenhance.core.metrics import auroc
    from napari_cellenhance.core.recipes.aep_segmenter import AEPSegmenter

    n_filters = setup.module.n_filters
    if not n_filters:
        return {}
    segmenter = AEPSegmenter(setup.module, setup.recipe.values, setup.choice)
    greys, labels = [], []
    for painted in setup.images[:: -(-len(setup.images) // _N_ASKED)]:
        is_painted = painted.labels > 0
        greys.append(segmenter.segment(painted.image).translated[:, is_painted])
        labels.append(painted.labels[is_painted])
    grey, label = np.concatenate(greys, axis=1), np.concatenate(labels)
    found = {}
    for value in setup.recipe.values:
        wanted = label == value
        if wanted.any() and not wanted.all():
            found[value] = int(np.argmax([auroc(grey[i], wanted) for i in range(n_filters)]))
    return found


def _training(setup: AEPSetup, state: FitState, stopped: str) -> dict[str, Any]:
    import torch

    request = setup.request
    return {
        "data": _data(setup),
        "data_sha256": hashlib.sha256(setup.identity.encode()).hexdigest(),
        "init_from": request.init_from,
        "recipe": json.loads(json.dumps(asdict(setup.recipe.settings))),
        "fit": asdict(setup.fit_settings),
        "network": request.network,
        "precision": "bfloat16 autocast" if setup.recipe.use_bf16 else "float32",
        "steps_done": state.step,
        "best_step": state.best_step,
        "stopped": stopped,
        "elapsed_s": round(state.elapsed_s),
        "hardware": f"{setup.choice.torch_device}; {os.cpu_count()} CPU cores, {platform.machine()}",
        "torch": str(torch.__version__),
        "finished_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _data(setup: AEPSetup) -> list[dict[str, Any]]:
    counts: dict[str, list[int]] = {}
    for painted in setup.images:
        entry = counts.setdefault(painted.name.rsplit(", ", 1)[0], [0, 0])
        entry[0] += 1
        entry[1] += int((painted.labels > 0).sum())
    return [{"name": name, "n_planes": n, "n_painted_px": px} for name, (n, px) in counts.items()]


def _scores(setup: AEPSetup, state: FitState) -> dict[str, Any]:
    rows: list[Mapping[str, float]] = [row for row in state.history if row["step"] == state.best_step]
    row = rows[-1] if rows else {}
    by_class = {str(v): row[f"val_iou_{v}"] for v in setup.recipe.values if f"val_iou_{v}" in row}
    branches = setup.weights_of_branches()
    known = {"held_out": setup.recipe.held_out.how, "iou": by_class, "weights_of_branches": branches}
    return known | ({"mean_iou": row["val_mean_iou"]} if "val_mean_iou" in row else {})
