"""What a training of a semantic filter leaves besides checkpoint and history: scores, picture, weights, card."""

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
from numpy.typing import NDArray

from napari_cellenhance.io.panel_figures import Picture, pictures_png
from napari_cellenhance.workflows._train_ranges import input_ranges, planes_of
from napari_cellenhance.workflows.separate import normalizer_for

if TYPE_CHECKING:
    from napari_cellenhance.core.training import FitState
    from napari_cellenhance.workflows._train_semantic_setup import SemanticSetup
    from napari_cellenhance.zoo.cards import ModelCard

__all__ = ["measure", "publish", "write_picture"]

CITATION = "Javer & Rittscher, Semantic filtering through deep source separation on microscopy images, arXiv 1909.00691"
_N_PAIRS_SHOWN = 4
_N_LOOKED_AT = 60
"""Images that tell what the network learned from."""
_SUMMARIES = {
    True: "Shows a movie without what moves; learned from frames some time apart.",
    False: "Keeps one kind of object and removes all else; learned from crops of objects.",
}
_STRENGTH_HELP = "0 shows the image itself, 1 what the network makes of it."


def measure(setup: SemanticSetup) -> dict[str, float]:
    """Scores on what was kept aside, with the weights that are kept; ``of_input_…`` are those of the images before."""
    scores = setup.recipe.validate()
    scores.pop("total")
    if setup.crops is None:
        return scores
    pairs = setup.recipe.pairs
    given = pairs.scores(np.stack([first for first, _ in pairs.validation()]))
    return scores | {f"of_input_{name}": value for name, value in given.items()}


def write_picture(setup: SemanticSetup) -> Path:
    """Write ``pairs.png``, what is learned from, or ``median.png``, the scene and how often each pixel is covered."""
    out = Path(setup.request.out)
    if setup.crops is None:
        rows = {
            name: [
                Picture("temporal median", check.median),
                Picture("share of frames with an object", check.coverage, limits=(0.0, 1.0)),
            ]
            for name, check in setup.checks
        }
        pictures_png(out / "median.png", rows)
        return out / "median.png"
    rng = np.random.default_rng([setup.request.seed, 7])
    pairs = [setup.recipe.pairs.draw(rng) for _ in range(_N_PAIRS_SHOWN)]
    shown = {
        f"pair {number}": [
            Picture("the network is given", _grey(given), limits=(0.0, 1.0)),
            Picture("and has to predict", _grey(wanted[: len(given)]), limits=(0.0, 1.0)),
        ]
        for number, (given, wanted) in enumerate(pairs, start=1)
    }
    pictures_png(out / "pairs.png", shown)
    return out / "pairs.png"


def _grey(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = planes.mean(axis=0)
    return mean


def publish(setup: SemanticSetup, state: FitState, stopped: str, scores: Mapping[str, float]) -> ModelCard:
    """Write weights and card of the best checkpoint; put the model where the doors find it."""
    from napari_cellenhance.zoo.weights import save_user_model

    request, module = setup.request, setup.module
    card = {
        "id": request.model_id,
        "title": request.title,
        "summary": _SUMMARIES[setup.crops is None],
        "version": "1.0.0",
        "recipe": "semantic",
        "architecture": module.architecture,
        "normalization": {"name": setup.scaling.kind, "parameters": setup.scaling.parameters},
        "strength": {"minimum": 0.0, "maximum": 1.0, "default": 1.0, "knots": [1.0], "help": _STRENGTH_HELP},
        "axes": "YX",
        "license": "BSD-3-Clause",
        "citation": CITATION,
        "input_ranges": input_ranges(_given(setup), request.init_from),
        "training": _training(setup, state, stopped),
        "scores": {"validation_loss": state.best_total, **scores},
    }
    state_dict = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    saved = save_user_model(state_dict, card, folder=Path(request.out))
    if request.install:
        save_user_model(state_dict, card)
    return saved


def _given(setup: SemanticSetup) -> list[NDArray[Any]]:
    """Planes as the network is given them, in grey values."""
    rng = np.random.default_rng([setup.request.seed, 8])
    drawn = [setup.recipe.pairs.draw(rng)[0] for _ in range(_N_LOOKED_AT)]
    kind, parameters = setup.scaling.kind, setup.scaling.parameters
    return planes_of([normalizer_for(kind, parameters, image).denormalize(image) for image in drawn])


def _training(setup: SemanticSetup, state: FitState, stopped: str) -> dict[str, Any]:
    import torch

    request, pairs = setup.request, setup.recipe.pairs
    return {
        "learned_from": "movies" if setup.crops is None else "crops",
        "outputs": _outputs(setup),
        "polarity": setup.polarity if setup.crops is None else None,
        "data": _data(setup),
        "data_sha256": hashlib.sha256(setup.identity.encode()).hexdigest(),
        "kept_aside": list(pairs.aside_names),
        "is_split_inside": pairs.is_split_inside,
        "warnings": list(setup.warnings),
        "init_from": request.init_from,
        "recipe": json.loads(json.dumps(asdict(setup.recipe.settings))),
        "pairs": json.loads(setup.identity).get("scene", {"lag": request.lag, "patch_px": pairs.patch_px}),
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


def _outputs(setup: SemanticSetup) -> list[str]:
    """What the channels of the network show, in groups of as many as the input has."""
    if setup.crops is None:
        return ["background"]
    return ["target"] if setup.module.n_out == setup.module.n_in else ["target", "background", "unwanted"]


def _data(setup: SemanticSetup) -> dict[str, Any]:
    if setup.crops is None:
        return {
            name: {"noise": check.noise, "share_covered": check.share_covered, "share_unclean": check.share_unclean,
                   "share_staying": check.share_staying}
            for name, check in setup.checks
        }  # fmt: skip
    crops = setup.crops
    return {
        "n_target": len(crops.target), "n_unwanted": len(crops.unwanted), "n_backgrounds": len(crops.backgrounds),
        "sources": list(crops.sources), "is_swapped": setup.request.is_swapped,
    }  # fmt: skip
