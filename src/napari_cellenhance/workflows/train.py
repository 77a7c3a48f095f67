"""Train a NU-Net: sources and a perceptual network in, weights, card and curves out."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellenhance.core.errors import ModelNotFoundError, ParameterError
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

if TYPE_CHECKING:
    from napari_cellenhance.core.losses.nunet import StyleBank
    from napari_cellenhance.core.models.nunet import NUNet
    from napari_cellenhance.core.models.perception import Perception
    from napari_cellenhance.core.recipes.nunet import NUNetTraining
    from napari_cellenhance.core.sources import ImageSource
    from napari_cellenhance.core.training import FitSettings, FitState

__all__ = ["TrainRequest", "TrainResult", "run"]

KNOTS = (1.0, 3.25, 5.5, 7.75, 10.0)
STYLE_BANK_ASSET = "nunet-style-bank"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """One NU-Net training.

    Parameters
    ----------
    data : path
        JSON list of sources, or a folder of images (then ``object_diameter_px`` and
        ``objects_are_dark`` describe them).
    data_root : path, optional
        What the paths in the JSON are relative to; default: its folder.
    out : path
        Folder for the weights, the card, the curves and the checkpoint; made if missing.
    perception : str
        Path of a distilled VGG-19 encoder (safetensors), ``torchvision`` for torchvision's VGG-19, or
        ``random`` for an untrained stand-in (tests only; the card says so).
    init_from : str, optional
        Id of a model to fine-tune. Default: random weights.
    strength : float, optional
        Train one fixed ``w`` with the published network; default: one network for w = 1…10.
    style_groups : int
        Groups of the style bank built from the masks in ``data``; 1 is the published mean over all. Without
        masks the shipped bank is used.
    stop_after : int
        End at this update of the ``n_steps`` that the learning rate is scheduled for; 0 runs them all.
    resume : bool
        Continue from ``out/checkpoint.safetensors`` if it is there.
    """

    data: str | os.PathLike[str]
    out: str | os.PathLike[str]
    perception: str
    data_root: str | os.PathLike[str] | None = None
    object_diameter_px: float | None = None
    objects_are_dark: bool = False
    model_id: str = "nunet-custom"
    title: str = "NU-Net (own training)"
    init_from: str | None = None
    strength: float | None = None
    style_groups: int = 6
    n_masks: int = 300
    validation_fraction: float = 0.1
    n_steps: int = 4000
    batch_size: int = 4
    crop_px: int = 128
    learning_rate: float = 1e-3
    validate_every: int = 250
    patience: int = 0
    stop_after: int = 0
    seed: int = 0
    precision: str = "auto"
    resume: bool = False
    install: bool = True
    """Also store the model in the user's models folder, so that every list of models shows it."""
    recipe_options: dict[str, Any] = field(default_factory=dict)
    """Further fields of ``core.recipes.nunet.NUNetTraining``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """Where everything is, and how the training ended."""

    model_id: str
    weights: Path
    card: Path
    history: Path
    stopped: str
    best_step: int
    best_total: float


def run(
    request: TrainRequest, *, on_progress: OnProgress = no_progress, is_cancelled: IsCancelled = never_cancelled
) -> TrainResult:
    """Train, and leave weights (``<id>.safetensors``), card, ``history.csv`` and ``history.png`` in ``request.out``.

    A cancel keeps the best weights so far. Nothing half-written stays; an earlier good model of the same
    name is replaced only by a finished validation.

    Raises
    ------
    ImageError
        A source cannot be read, or holds nothing usable.
    ParameterError
        Settings out of range; a checkpoint of other settings.
    TrainingError
        The first loss is not a number.
    """
    import torch

    from napari_cellenhance.core.recipes.nunet import NUNetRecipe, balance
    from napari_cellenhance.core.sources import split_sources
    from napari_cellenhance.core.training import FitSettings, FitState, fit
    from napari_cellenhance.io.datasets import read_sources

    out = Path(request.out)
    out.mkdir(parents=True, exist_ok=True)
    sources = read_sources(
        request.data, data_root=request.data_root,
        object_diameter_px=request.object_diameter_px, objects_are_dark=request.objects_are_dark,
    )  # fmt: skip
    rng = np.random.default_rng(request.seed)
    train, valid = split_sources(sources, request.validation_fraction, rng)
    module, parent_factor = _network(request)
    settings = _recipe_settings(request, module)
    perception = _open_perception(request)
    bank = _style_bank(request, settings, perception, train, rng)
    recipe = NUNetRecipe(
        module, perception, bank, train, valid, settings, seed=request.seed, use_bf16=_use_bf16(request.precision)
    )
    fit_settings = FitSettings(
        n_steps=request.n_steps, learning_rate=request.learning_rate, validate_every=request.validate_every,
        patience=request.patience, seed=request.seed,
    )  # fmt: skip
    identity = json.dumps(_identity(request, settings, fit_settings), sort_keys=True)
    checkpoint = out / "checkpoint.safetensors"
    state, factor = _resume(checkpoint, identity) if request.resume else (FitState(), None)
    known = factor if factor is not None else parent_factor
    recipe.balance_factor = known if known is not None else balance(recipe, settings.n_dry_run, request.seed)
    if factor is None:
        torch.manual_seed(request.seed)

    def on_step(state: FitState, row: dict[str, float]) -> None:
        remaining = (request.n_steps - state.step) * state.elapsed_s / max(1, state.step)
        text = f"loss {row['total']:.4f} (content {row['content']:.4f}, morphology {row['style']:.4f})"
        on_progress(Progress(n_done=state.step, n_total=request.n_steps, message=text, eta_s=remaining))

    def on_checkpoint(state: FitState) -> None:
        _write_checkpoint(checkpoint, state, identity, recipe.balance_factor)
        _write_history(out, state)

    result = fit(
        recipe, fit_settings, state=state, on_step=on_step, on_checkpoint=on_checkpoint,
        is_cancelled=lambda: is_cancelled() or 0 < request.stop_after <= state.step,
    )  # fmt: skip
    return _publish(request, out, module, recipe, bank, settings, fit_settings, result.state, result.stopped, sources)


def _recipe_settings(request: TrainRequest, module: NUNet) -> NUNetTraining:
    from napari_cellenhance.core.recipes.nunet import NUNetTraining

    fixed = request.strength if request.strength is not None else KNOTS[-1]
    strengths = (module.knots[0], module.knots[-1]) if module.knots else (fixed, fixed)
    options = dict(request.recipe_options)
    if request.init_from is not None:
        options.setdefault("n_anchored", 0)  # the network shows the objects already
    try:
        return NUNetTraining(crop_px=request.crop_px, batch_size=request.batch_size, strengths=strengths, **options)
    except TypeError as error:
        raise ParameterError(f"unknown training option: {error}") from error


def _open_perception(request: TrainRequest) -> Perception:
    from napari_cellenhance.core.models.perception import distilled_vgg19, random_vgg, vgg19
    from napari_cellenhance.zoo.weights import load_state

    if request.perception == "random":
        return random_vgg(0)
    if request.perception == "torchvision":
        try:
            from torchvision.models import VGG19_Weights
            from torchvision.models import vgg19 as build_vgg19
        except ImportError as error:
            raise ModelNotFoundError(
                "torchvision is not installed; run 'pip install torchvision', or give the file of a distilled VGG-19"
            ) from error
        return vgg19(build_vgg19(weights=VGG19_Weights.IMAGENET1K_V1).state_dict())
    return distilled_vgg19(load_state(request.perception))


def _style_bank(
    request: TrainRequest,
    settings: NUNetTraining,
    perception: Perception,
    train: list[ImageSource],
    rng: np.random.Generator,
) -> StyleBank:
    """Bank from the masks at hand; the shipped one where there are none."""
    import torch

    from napari_cellenhance.core.losses.nunet import StyleBank, build_style_bank
    from napari_cellenhance.core.sources import sample_masks
    from napari_cellenhance.zoo.cache import resolve
    from napari_cellenhance.zoo.manifest import find_asset
    from napari_cellenhance.zoo.weights import load_state, read_metadata

    if any(label is not None for source in train for label in source.labels):
        masks = sample_masks(train, request.n_masks, settings.crop_px, rng, diameters=settings.diameters_px)
        return build_style_bank(perception, torch.from_numpy(masks)[:, None], request.style_groups)
    path = resolve(find_asset(STYLE_BANK_ASSET).file)
    bank = StyleBank.from_tensors(load_state(path), read_metadata(path).get("perception", ""))
    if bank.perception_id != perception.spec.id:
        raise ParameterError(
            f"the shipped style bank belongs to {bank.perception_id!r}, the perceptual network is "
            f"{perception.spec.id!r}; add a source with masks, so that a bank can be built"
        )
    return bank


def _network(request: TrainRequest) -> tuple[NUNet, float | None]:
    """Network to train, and the balance factor it was trained with before, if any."""
    import torch

    from napari_cellenhance.core.models.nunet import NUNet

    if request.init_from is not None:
        from napari_cellenhance.zoo.manifest import find_model
        from napari_cellenhance.zoo.weights import load_model

        card = find_model(request.init_from)
        module = load_model(card)
        if not isinstance(module, NUNet):
            raise ParameterError(f"the model {request.init_from!r} is not a NU-Net; choose one that is")
        if (module.conditioning == "none") != (request.strength is not None):
            raise ParameterError(
                f"the model {request.init_from!r} has conditioning {module.conditioning!r}, which does not fit "
                f"strength {request.strength}; give a fixed strength only for an unconditioned model"
            )
        return module, _balance_factor_of(card.training)
    torch.manual_seed(request.seed)
    if request.strength is not None:
        return NUNet(output="sigmoid"), None
    return NUNet(conditioning="head", knots=KNOTS, output="sigmoid"), None


def _balance_factor_of(training: Mapping[str, Any]) -> float | None:
    """λ per unit of the model's strength. A trained network has a small style loss: a dry run would overrate λ."""
    factor, ratio = training.get("balance_factor"), training.get("loss_ratio_per_strength", 1.0)
    if isinstance(factor, (int, float)) and isinstance(ratio, (int, float)):
        return float(factor) * float(ratio)
    return None


def _use_bf16(precision: str) -> bool:
    if precision == "auto":
        from napari_cellenhance.core.device import choose_device

        return choose_device("cpu", "auto").precision == "bfloat16"
    if precision not in ("float32", "bfloat16"):
        raise ParameterError(f"precision is {precision!r}; expected auto, float32 or bfloat16")
    return precision == "bfloat16"


def _identity(request: TrainRequest, settings: NUNetTraining, fit_settings: FitSettings) -> dict[str, Any]:
    """What must not change between a run and its resumption."""
    return {
        "data": str(request.data), "perception": Path(request.perception).name, "init_from": request.init_from,
        "style_groups": request.style_groups, "n_masks": request.n_masks, "recipe": asdict(settings),
        "fit": asdict(fit_settings),
    }  # fmt: skip


def _write_checkpoint(path: Path, state: FitState, identity: str, factor: float) -> None:
    from napari_cellenhance.zoo.weights import save_state

    groups = {
        "module": state.module, "best": state.best, "first": state.first_moment, "second": state.second_moment,
    }  # fmt: skip
    tensors = {f"{group}/{name}": tensor for group, part in groups.items() for name, tensor in part.items()}
    scalars = {
        "step": state.step, "best_step": state.best_step, "best_total": state.best_total, "n_worse": state.n_worse,
        "elapsed_s": state.elapsed_s, "history": state.history, "balance_factor": factor,
    }  # fmt: skip
    save_state(path, tensors, metadata={"identity": identity, "state": scalars})


def _resume(path: Path, identity: str) -> tuple[FitState, float | None]:
    from napari_cellenhance.core.training import FitState
    from napari_cellenhance.zoo.weights import load_state, read_metadata

    if not path.exists():
        return FitState(), None
    metadata = read_metadata(path)
    if metadata.get("identity") != identity:
        raise ParameterError(
            f"{path} belongs to a training with other settings; choose another folder, or start anew without resume"
        )
    scalars = dict(metadata["state"])
    factor = float(scalars.pop("balance_factor"))
    parts: dict[str, dict[str, Any]] = {"module": {}, "best": {}, "first": {}, "second": {}}
    for key, tensor in load_state(path).items():
        group, name = key.split("/", 1)
        parts[group][name] = tensor
    state = FitState(
        **scalars,
        module=parts["module"],
        best=parts["best"],
        first_moment=parts["first"],
        second_moment=parts["second"],
    )
    return state, factor


def _write_history(out: Path, state: FitState) -> None:
    from napari_cellenhance.io.curves import loss_curves_png
    from napari_cellenhance.io.safe_write import atomic_path

    columns = sorted(
        {key for row in state.history for key in row}, key=lambda k: (k != "step", k.startswith("val_"), k)
    )
    with atomic_path(out / "history.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(state.history)
    loss_curves_png(out / "history.png", state.history)


def _publish(
    request: TrainRequest,
    out: Path,
    module: NUNet,
    recipe: Any,
    bank: StyleBank,
    settings: NUNetTraining,
    fit_settings: FitSettings,
    state: FitState,
    stopped: str,
    sources: list[ImageSource],
) -> TrainResult:
    """Write weights, style bank and card of the best checkpoint; put the model where the doors find it."""
    import torch

    from napari_cellenhance.zoo.weights import save_state, save_user_model

    bank_path = out / f"{STYLE_BANK_ASSET}.safetensors"
    save_state(bank_path, bank.to_tensors(), metadata={"perception": bank.perception_id})
    knots = list(module.knots)
    low = knots[0] if knots else float(request.strength or 0.0)
    high = knots[-1] if knots else float(request.strength or 0.0)
    card = {
        "id": request.model_id,
        "title": request.title,
        "summary": "Self-supervised blob filter with adjustable strength: objects bright, ground dark.",
        "version": "1.0.0",
        "recipe": "nunet",
        "architecture": {
            "name": "nunet", "conditioning": module.conditioning, "knots": knots, "output": module.output,
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
        "training": {
            "data": [{"name": s.name, "n_images": len(s.images)} for s in sources],
            "perception": recipe.perception.spec.id,
            "style_groups": bank.n_groups,
            "balance_factor": recipe.balance_factor,
            "recipe": json.loads(json.dumps(asdict(settings))),
            "fit": asdict(fit_settings),
            "precision": "bfloat16 autocast" if recipe.use_bf16 else "float32",
            "init_from": request.init_from,
            "steps_done": state.step,
            "best_step": state.best_step,
            "best_validation_total": state.best_total,
            "stopped": stopped,
            "elapsed_s": round(state.elapsed_s),
            "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}",
            "torch": str(torch.__version__),
            "finished_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        "scores": {},
    }  # fmt: skip
    state_dict = {k: v.contiguous() for k, v in module.state_dict().items()}
    saved = save_user_model(state_dict, card, half=True, folder=out)
    if request.install:
        save_user_model(state_dict, card, half=True)
    return TrainResult(
        model_id=saved.id, weights=out / saved.file.name, card=out / f"{saved.id}.json", history=out / "history.csv",
        stopped=stopped, best_step=state.best_step, best_total=state.best_total,
    )  # fmt: skip
