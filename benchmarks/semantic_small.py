"""Experiments on generated images: what the semantic filter learns in a few hundred updates on a CPU.

A: dark worms on 24 scenes of their own, 5 frames each, 3 % of the pixels covered; judged on scenes never seen.
B: textured discs to keep, bars to remove; judged on scenes made of crops never seen, and on bars alone.

``python benchmarks/semantic_small.py OUT.json [--seeds 3]``
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter

from napari_cellenhance.core.crops import Background, CropSet, ObjectCrop
from napari_cellenhance.core.metrics import iou
from napari_cellenhance.core.models.semantic_unet import SemanticUNet
from napari_cellenhance.core.recipes.semantic import CropPairs, Movie, MoviePairs, SemanticRecipe, SemanticTraining
from napari_cellenhance.core.synthetic_pairs import Scaling, SceneMaker, SceneSettings
from napari_cellenhance.core.training import FitSettings, fit

DEPTH = 0.35
Pixels = NDArray[np.float32]


def worms(seed: int, n_frames: int = 5, side: int = 64) -> tuple[Pixels, NDArray[np.bool_], Pixels]:
    """Frames (T, 1, Y, X), where the worm is in each, and the scene without it."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(side, side)), 9)
    scene = 0.75 + 0.15 * (smooth - smooth.mean()) / np.ptp(smooth)
    frames, masks = [], []
    for _ in range(n_frames):
        mask = np.zeros((side, side), bool)
        y, x, angle = *rng.uniform(4, side - 4, 2), rng.uniform(0, 2 * np.pi)
        for _ in range(24):
            mask[int(np.clip(y, 0, side - 1)), int(np.clip(x, 0, side - 1))] = True
            y, x, angle = y + np.sin(angle), x + np.cos(angle), angle + rng.normal(0, 0.15)
        mask = binary_dilation(mask, np.ones((5, 5)))
        frames.append(scene - DEPTH * mask + rng.normal(0, 0.01, mask.shape))
        masks.append(mask)
    return np.stack(frames).astype(np.float32)[:, None], np.stack(masks), scene.astype(np.float32)


def movies(seed: int, n_steps: int, loss: Any) -> dict[str, float]:
    """Experiment A."""
    training = SemanticTraining(loss=loss, batch_size=8, n_validation=16)
    made = [worms(1000 * seed + i) for i in range(24)]
    pairs = MoviePairs([Movie(one[0], f"{i}") for i, one in enumerate(made)], 1, 64, "dark", training, seed)
    net = _train(SemanticRecipe(_network(seed), pairs, training), n_steps, 1e-3, seed)
    unseen = [worms(1000 * seed + 500 + i) for i in range(8)]
    frames = np.concatenate([one[0] for one in unseen])
    masks = np.concatenate([one[1] for one in unseen])
    scenes = np.concatenate([np.repeat(one[2][None], len(one[0]), 0) for one in unseen])
    found = _apply(net, frames)[:, 0]
    return {
        "coverage": float(masks.mean()),
        "iou": iou((found - frames[:, 0]) > DEPTH / 2, masks),
        "iou_at_10_of_255": iou((found - frames[:, 0]) > 10 / 255, masks),
        "bias_share": float((found - scenes)[masks].mean()) / DEPTH,
    }


def discs_and_bars(seed: int, n_images: int = 5, n_each: int = 10) -> CropSet:
    """Crops of both kinds, and uneven grounds."""
    rng = np.random.default_rng(seed)
    target, unwanted, grounds = [], [], []
    for name in (f"image {i}" for i in range(n_images)):
        target += [_disc(rng, name) for _ in range(n_each)]
        unwanted += [_bar(rng, name) for _ in range(n_each)]
        smooth = gaussian_filter(rng.normal(size=(128, 128)), 10)
        ground = 20 + 20 * (smooth - smooth.min()) / np.ptp(smooth) + rng.normal(0, 2, smooth.shape)
        nothing = np.zeros(smooth.shape, bool)
        grounds.append(Background(pixels=ground.clip(0).astype(np.float32), mask=nothing, source=name))
    return CropSet(target=tuple(target), unwanted=tuple(unwanted), backgrounds=tuple(grounds))


def _disc(rng: np.random.Generator, source: str) -> ObjectCrop:
    radius = rng.uniform(6, 9)
    y, x = np.mgrid[-9:10, -9:10]
    texture = 1 + 0.2 * np.cos(1.2 * y + rng.uniform(0, 6)) * np.cos(1.2 * x + rng.uniform(0, 6))
    values = 25 + rng.uniform(80, 140) * (1 - 0.6 * np.hypot(y, x) ** 2 / radius**2) * texture
    return _crop(values, np.hypot(y, x) <= radius, source)


def _bar(rng: np.random.Generator, source: str) -> ObjectCrop:
    y, x = np.mgrid[-15:16, -15:16]
    angle, half = rng.uniform(0, np.pi), rng.uniform(1.5, 3)
    along, across = y * np.sin(angle) + x * np.cos(angle), x * np.sin(angle) - y * np.cos(angle)
    values = 25 + rng.uniform(80, 140) * (1 - 0.6 * across**2 / half**2)
    return _crop(values, (np.abs(along) <= rng.uniform(10, 14)) & (np.abs(across) <= half), source)


def _crop(values: NDArray[np.float64], mask: NDArray[np.bool_], source: str) -> ObjectCrop:
    pixels = np.where(mask, values, 0).astype(np.float32)
    return ObjectCrop(pixels=pixels, mask=mask, source=source, box=(0, 0, *mask.shape))


def crops(seed: int, n_steps: int, loss: Any) -> dict[str, float]:
    """Experiment B."""
    training = SemanticTraining(loss=loss, batch_size=8, n_validation=48)
    scene = SceneSettings(size_px=64, n_target=(1, 4), n_unwanted=(1, 4), outside=0.2)
    scaling = Scaling(kind="fixed", low=0.0, high=255.0)
    pairs = CropPairs(discs_and_bars(seed), scene, scaling, training, seed)
    net = _train(SemanticRecipe(_network(seed), pairs, training), n_steps, 1e-3, seed)
    found = _apply(net, np.stack([pair.first.image for pair in pairs.aside]))
    energies = {}
    for name, more in (("target", {"n_unwanted": (0, 0)}), ("unwanted", {"n_target": (0, 0), "n_unwanted": (2, 4)})):
        maker = SceneMaker(pairs.kept, replace(scene, **more), scaling)  # type: ignore[arg-type]
        images = [maker.draw(np.random.default_rng([seed, i])).first.image for i in range(32)]
        outputs = _apply(net, np.stack(images))
        energies[name] = float(((outputs - np.median(outputs, axis=(1, 2, 3), keepdims=True)) ** 2).mean())
    given = pairs.scores(np.stack([pair.first.image for pair in pairs.aside]))
    return {
        **pairs.scores(found), "energy_share": energies["unwanted"] / energies["target"],
        **{f"of_input_{name}": value for name, value in given.items()},
    }  # fmt: skip


def _network(seed: int) -> SemanticUNet:
    torch.manual_seed(seed)
    return SemanticUNet().to("cuda" if torch.cuda.is_available() else "cpu")


def _train(recipe: SemanticRecipe, n_steps: int, learning_rate: float, seed: int) -> SemanticUNet:
    settings = FitSettings(
        n_steps=n_steps, learning_rate=learning_rate, weight_decay=0, n_warmup=20, validate_every=max(1, n_steps // 4),
        seed=seed,
    )  # fmt: skip
    fit(recipe, settings)
    return recipe.network.eval()


def _apply(net: SemanticUNet, images: Pixels) -> Pixels:
    device = next(net.parameters()).device
    with torch.inference_mode():
        parts = [net(torch.from_numpy(part).to(device)).cpu().numpy() for part in np.array_split(images, 4)]
    return np.concatenate(parts)


def main() -> None:
    """Run both experiments for some seeds and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=("A", "B"), default=None)
    parser.add_argument("--losses", default="l1", help="between commas")
    chosen = parser.parse_args()
    rows = []
    for loss in chosen.losses.split(","):
        for name, experiment, n_steps in (("A", movies, 220), ("B", crops, 600)):
            if chosen.only not in (None, name):
                continue
            for seed in range(chosen.seeds):
                begun = time.monotonic()
                scores = experiment(seed, n_steps, loss)
                took = round(time.monotonic() - begun, 1)
                rows.append({"experiment": name, "loss": loss, "seed": seed, "updates": n_steps, "s": took} | scores)
                print(json.dumps(rows[-1]), flush=True)
    chosen.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
