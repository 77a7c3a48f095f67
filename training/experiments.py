"""What raises the quality of NU-Net: short trainings that differ in one thing each, scored alike.

Usage: python training/experiments.py --data-root DATA --perceptions FOLDER --out runs/experiments [--only NAME …]

Each variant is trained from the same seed on the same batches and scored on labelled images that no variant
was trained on (a tenth of the *training* split; the test split is never touched). A finished variant is
read back from its JSON, so an interrupted log goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cellenhance.core import metrics
from napari_cellenhance.core.augment import degrade
from napari_cellenhance.core.losses.nunet import build_style_bank
from napari_cellenhance.core.memory import keep_memory
from napari_cellenhance.core.models.nunet import NORM_EPS, NUNet
from napari_cellenhance.core.models.perception import _PLAN, Perception, PerceptionSpec, distilled_vgg19, squeezenet
from napari_cellenhance.core.postprocess import blob_candidates, centroids
from napari_cellenhance.core.recipes.nunet import NUNetRecipe, NUNetTraining, as_filtered, balance
from napari_cellenhance.core.sources import (
    ImageSource,
    sample_crop,
    sample_masks,
    split_sources,
    with_labels,
)
from napari_cellenhance.core.training import FitSettings, FitState, fit
from napari_cellenhance.io.datasets import read_sources
from napari_cellenhance.io.safe_write import atomic_path
from napari_cellenhance.zoo.weights import load_state

ROOT = Path(__file__).resolve().parents[1]
KNOTS = (2.5, 4.375, 6.25, 8.125, 10.0)
STRENGTHS = (2.5, 5.0, 10.0)
DETECTOR = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3)
N_SCORED = 48
SCORED_PX = 192
FIXED_DIAMETER = (20.0, 20.0)


class FullyConditioned(NUNet):
    """Affine of all 15 norms linear in the strength (METHODS 10.2 c): nothing can be reused when the slider moves."""

    def __init__(self) -> None:
        super().__init__(output="sigmoid")
        for layer in self._layers():
            norm = layer.norm
            norm.slope_weight = nn.Parameter(torch.zeros_like(norm.weight))
            norm.slope_bias = nn.Parameter(torch.zeros_like(norm.bias))
        self.conditioning = "head"  # the recipe calls features, then render
        self.knots = KNOTS

    def _layers(self) -> list[Any]:
        blocks = [layer for block in self.trunk for layer in (block.first, block.second)]
        return [*self.enc, *blocks, self.up1, self.up2]

    def features(self, x: Tensor) -> Tensor:
        """Nothing is independent of the strength: the input itself."""
        return x

    def render(self, features: Tensor, strengths: Tensor | None = None) -> Tensor:
        """The whole network at one strength per sample."""
        assert strengths is not None
        tau = ((strengths - 6.25) / 3.75).view(-1, 1)

        def apply(layer: Any, x: Tensor) -> Tensor:
            norm = layer.norm
            gamma = norm.weight + tau * norm.slope_weight
            beta = norm.bias + tau * norm.slope_bias
            return F.instance_norm(layer.convolve(x), eps=NORM_EPS) * gamma[..., None, None] + beta[..., None, None]

        x = features
        for layer in self.enc:
            x = F.relu(apply(layer, x))
        for block in self.trunk:
            x = x + apply(block.second, F.relu(apply(block.first, x)))
        x = F.relu(apply(self.up1, x))
        x = F.relu(apply(self.up2, x))
        return self.bound(self.head(F.pad(x, (self.kernel_ends // 2,) * 4, mode="reflect")))


class ThreeBlocks(NUNet):
    """A shallower trunk."""

    n_blocks = 3


class SevenBlocks(NUNet):
    """A deeper trunk."""

    n_blocks = 7


def fixed() -> NUNet:
    """The published network: one strength."""
    return NUNet(output="sigmoid", norm="frozen")


def published(kind: type[NUNet] = NUNet) -> NUNet:
    """Instance norms, conditioned in the last one."""
    return kind(conditioning="head", knots=KNOTS, output="sigmoid")


def frozen(kind: type[NUNet] = NUNet) -> NUNet:
    """Frozen statistics, conditioned in the last norm."""
    return kind(conditioning="head", knots=KNOTS, output="sigmoid", norm="frozen")


def decoder(kind: type[NUNet] = NUNet) -> NUNet:
    """Frozen statistics, conditioned in the last two norms."""
    return kind(conditioning="decoder", knots=KNOTS, output="sigmoid", norm="frozen")


def genuine_vgg19(state: dict[str, Tensor]) -> Perception:
    """VGG-19 at full width up to relu3_1, the last layer that is at hand; taps relu1_2, relu2_2, relu3_1."""
    names = [n for n in _PLAN[: _PLAN.index("31") + 1] if n != "P"]
    convolutions = {n: (state[f"conv{n}.weight"].float(), state[f"conv{n}.bias"].float()) for n in names}
    colour, shift = state["conv0.weight"].float()[:, :, 0, 0], state["conv0.bias"].float()
    weight, bias = convolutions["11"]
    grey = torch.einsum("ochw,c->ohw", weight, colour.sum(dim=1)).unsqueeze(1)
    convolutions["11"] = (grey, bias + torch.einsum("ochw,c->o", weight, shift))
    return Perception(PerceptionSpec("vgg19-relu3_1", ("12", "22", "31"), "reflect"), convolutions)


@dataclass(frozen=True)
class Variant:
    """One line of the log: what differs from the first one."""

    what: str
    network: Callable[[], NUNet] = decoder
    perception: str = "distilled"
    settings: dict[str, Any] = field(default_factory=dict)


GUIDED: dict[str, Any] = {"paired": 1.0}
VARIANTS = {
    "base": Variant("the recipe: frozen norms, conditioned decoder, distilled VGG-19, noise, dim crops, 10–44 px"),
    "instance": Variant("instance norms, the last one conditioned", published),
    "head": Variant("frozen norms, the last one conditioned", frozen),
    "full": Variant("instance norms, all 15 conditioned", FullyConditioned),
    "blocks3": Variant("3 residual blocks", lambda: decoder(ThreeBlocks)),
    "blocks7": Variant("7 residual blocks", lambda: decoder(SevenBlocks)),
    "squeezenet": Variant("SqueezeNet 1.1 as perceptual network", perception="squeezenet"),
    "vgg31": Variant("genuine VGG-19 up to relu3_1", perception="vgg31"),
    "squeezenet-instance": Variant("SqueezeNet 1.1 and instance norms", published, "squeezenet"),
    "one-tap": Variant("content on the second tap alone, as published", settings={"content_taps": (1,)}),
    "no-noise": Variant("no degraded crops", settings={"degraded_fraction": 0.0}),
    "no-dim": Variant("no dim crops", settings={"dim_fraction": 0.0}),
    "one-size": Variant("objects always 20 px", settings={"diameters_px": FIXED_DIAMETER}),
    "no-empty": Variant("no crops of bare noise", settings={"empty_fraction": 0.0}),
    "no-anchor": Variant("no pixel anchor after the start", settings={"anchor_floor": 0.0, "anchor": 0.5}),
    "absolute": Variant("absolute per-tap losses, as published", settings={"is_relative": False}),
    "fixed-5": Variant("one network for w = 5 alone", fixed, settings={"strengths": (5.0, 5.0)}),
    "fixed-6": Variant("one network for w = 6 alone", fixed, settings={"strengths": (6.0, 6.0)}),
    "fixed-7": Variant("one network for w = 7 alone", fixed, settings={"strengths": (7.0, 7.0)}),
    "fixed-8": Variant("one network for w = 8 alone", fixed, settings={"strengths": (8.0, 8.0)}),
    "fixed-10": Variant("one network for w = 10 alone", fixed, settings={"strengths": (10.0, 10.0)}),
    "guided": Variant("paired term where masks exist (nunet-guided)", settings=GUIDED),
    "guided-instance": Variant("the same with instance norms", published, settings=GUIDED),
    "guided-keeps": Variant("labelled crops keep a tenth of the other losses", settings=GUIDED | {"paired_keeps": 0.1}),
    "labels": Variant("the paired term alone", settings={"paired": 1.0, "self_supervised": 0.0}),
    "guided-no-dim": Variant("the same without dim crops", settings=GUIDED | {"dim_fraction": 0.0}),
    "guided-blocks3": Variant("the same with 3 residual blocks", lambda: decoder(ThreeBlocks), settings=GUIDED),
}


def open_perception(kind: str, folder: Path) -> Any:
    if kind == "distilled":
        return distilled_vgg19(load_state(folder / "vgg19_16x_distilled_relu5_1.safetensors"))
    if kind == "squeezenet":
        return squeezenet(load_state(folder / "squeezenet1_1_imagenet.safetensors"))
    return genuine_vgg19(dict(load_state(folder / "vgg19_normalised_relu3_1.safetensors")))


def held_out(sources: Sequence[ImageSource]) -> list[tuple[NDArray[np.float32], NDArray[np.integer]]]:
    """Crops of labelled images at 20 px per object, each as acquired and degraded."""
    rng = np.random.default_rng(7)
    labelled = with_labels(sources)
    crops = []
    for i in range(N_SCORED):
        crop = sample_crop([labelled[i % len(labelled)]], SCORED_PX, rng, diameters=FIXED_DIAMETER)
        if crop.labels is not None and crop.labels.any():
            crops += [(crop.image, crop.labels), (as_filtered(degrade(crop.image, rng)), crop.labels)]
    return crops


@torch.no_grad()
def score(recipe: NUNetRecipe, crops: Sequence[tuple[NDArray[np.float32], NDArray[np.integer]]]) -> dict[str, Any]:
    """Means over clean and degraded crops at three strengths; ``empty`` is the mean output on bare noise."""
    network = recipe.module.eval()
    radius = FIXED_DIAMETER[0] / 2
    table: dict[str, list[list[float]]] = {}
    device = recipe.device
    for index, (image, labels) in enumerate(crops):
        x = torch.from_numpy(image)[None, None].to(device) * 255.0
        truth = centroids(labels)
        for w in STRENGTHS:
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.use_bf16):
                out = network(x, torch.tensor([w], device=device) if network.knots else None)
            plane = out.float().clamp(0, 255)[0, 0].cpu().numpy() / 255.0
            points, responses = blob_candidates(plane, radius)
            f1 = [metrics.match_points(points[responses >= t], truth, radius).f1 for t in DETECTOR]
            key = f"{'degraded' if index % 2 else 'clean'} {w:g}"
            table.setdefault(key, []).append(
                [metrics.otsu_iou(plane, labels > 0), metrics.auroc(plane, labels > 0), *f1]
            )
    out_scores: dict[str, Any] = {}
    for key, rows in table.items():
        means = np.mean(rows, axis=0)
        out_scores[key] = {"otsu_iou": means[0], "auroc": means[1], "blob_f1": means[2:].max()}
    noise = torch.from_numpy(np.random.default_rng(1).normal(128, 40, (4, 1, 128, 128)).astype(np.float32)).to(device)
    strengths = torch.full((4,), 10.0, device=device) if network.knots else None
    out_scores["empty 10"] = float(network(noise, strengths).mean() / 255.0)
    return out_scores


def run(name: str, options: argparse.Namespace, train: list[ImageSource], valid: list[ImageSource]) -> dict[str, Any]:
    variant = VARIANTS[name]
    torch.manual_seed(0)
    network = variant.network()
    settings = NUNetTraining(
        n_anchored=options.steps // 8, norms_freeze_at=options.steps // 2, n_validation=16, **variant.settings
    )
    perception = open_perception(variant.perception, options.perceptions)
    masks = sample_masks(train, 120, settings.crop_px, np.random.default_rng(0), diameters=settings.diameters_px)
    bank = build_style_bank(perception, torch.from_numpy(masks)[:, None], 6)
    recipe = NUNetRecipe(
        network, perception, bank, train, valid, settings, use_bf16=options.bf16, device=options.device
    )
    recipe.balance_factor = balance(recipe, 10, 0)
    started = time.monotonic()
    fit_settings = FitSettings(n_steps=options.steps, validate_every=options.steps)

    def report(state: FitState, row: dict[str, float]) -> None:
        if state.step % 50 == 0:
            print(name, state.step, round(row["total"], 4), flush=True)

    fit(recipe, fit_settings, on_step=report)
    elapsed = time.monotonic() - started
    return {
        "what": variant.what,
        "n_parameters": sum(p.numel() for p in network.parameters()),
        "s_per_update": elapsed / options.steps,
        "steps": options.steps,
        "device": options.device,
        "scores": score(recipe, held_out(valid)),
    }


def to_markdown(results: dict[str, dict[str, Any]]) -> str:
    columns = [f"{q} {w:g}" for q in ("clean", "degraded") for w in STRENGTHS]
    lines = [
        f"| variant | {' | '.join(columns)} | on bare noise | s/update |",
        f"|---|{'---:|' * (len(columns) + 2)}",
    ]
    for name, result in results.items():
        cells = [f"{result['scores'][c]['otsu_iou']:.3f} / {result['scores'][c]['blob_f1']:.3f}" for c in columns]
        lines.append(
            f"| {name}: {result['what']} | {' | '.join(cells)} | {result['scores']['empty 10']:.3f} | "
            f"{result['s_per_update']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--perceptions", type=Path, required=True, help="folder of the perceptual networks")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    keep_memory()
    sources = read_sources(ROOT / "training" / "nunet.json", data_root=options.data_root)
    train, valid = split_sources(sources, 0.1, np.random.default_rng(0))
    for name in options.only:
        path = options.out / f"{name}.json"
        if path.exists():
            continue
        result = run(name, options, train, valid)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(result, indent=1), encoding="utf-8")
    done = {n: options.out / f"{n}.json" for n in VARIANTS}
    results = {n: json.loads(p.read_text(encoding="utf-8")) for n, p in done.items() if p.exists()}
    print(to_markdown(results))


if __name__ == "__main__":
    main()
