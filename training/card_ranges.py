"""Measure what kind of images the shipped models learned from, and write it to their cards.

Usage: python training/card_ranges.py DATA_ROOT [MODEL_ID …]

Images of the training splits only, as the network saw them: NU-Net's crops resized and made poor, the denoiser's with
noise added, the restoration's made poor by its three levels. Goes to ``input_ranges`` in weights_manifest.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_cellenhance.core.augment import degrade
from napari_cellenhance.core.input_traits import middle, ranges_of, traits_of
from napari_cellenhance.core.microscope import Preparation, clean_target, expose, levels_from
from napari_cellenhance.core.noise import NoiseRange
from napari_cellenhance.core.sources import sample_crop
from napari_cellenhance.io.datasets import read_planes, read_sources
from napari_cellenhance.zoo.manifest import find_model, write_entry

ROOT = Path(__file__).resolve().parents[1]
N_CROPS = 300
CROP_PX = 256
AS_STORED = {"levels"}
"""Traits of images as stored; crops that were made from them have none."""

Plane = NDArray[Any]


def listed(name: str, data: Path) -> Iterator[Plane]:
    """Planes of a list of sources, as stored."""
    for entry in json.loads((ROOT / "training" / name).read_text(encoding="utf-8"))["sources"]:
        if "npz" in entry and isinstance(entry.get("planes"), str):  # the name of an array of indices
            with np.load(data / entry["npz"], allow_pickle=False) as archive:
                yield from archive[entry["key"]][archive[entry["planes"]]]
            continue
        own = {key: value for key, value in entry.items() if key not in ("has_border", "repeat", "masks")}
        for plane in read_planes(own, data)[0]:
            yield plane if not own.get("objects_are_dark") else plane.max() - plane


def of_nunet(data: Path, rng: np.random.Generator) -> Iterator[Plane]:
    """Crops as NU-Net is fed with them."""
    sources = read_sources(ROOT / "training" / "nunet.json", data_root=data)
    for _ in range(N_CROPS):
        crop = sample_crop(sources, CROP_PX, rng, diameters=(10.0, 44.0)).image
        yield degrade(crop, rng) if rng.random() < 0.6 else crop


def of_denoiser(data: Path, rng: np.random.Generator) -> Iterator[Plane]:
    """Noisy images as the denoiser is fed with them."""
    noise = NoiseRange(photons=(3, 200), read_sigma=(0.01, 0.3), share=0.85)
    for plane in listed("n2v2-fluorescence.json", data):
        part = np.asarray(middle(plane), np.float32)
        low, high = np.percentile(part, [0.1, 99.9])
        yield noise.draw(rng).add((part - np.float32(low)) / np.float32(max(high - low, 1e-6)), rng)


def of_restorer(data: Path, rng: np.random.Generator) -> Iterator[Plane]:
    """Images made poor as the restoration is fed with them."""
    levels = levels_from(json.loads((ROOT / "training" / "care-nuclei-levels.json").read_text(encoding="utf-8")))
    for number, plane in enumerate(listed("care-nuclei.json", data)):
        target = clean_target(np.asarray(middle(plane)), Preparation())
        yield expose(target, np.ones((1, 1)), levels[number % len(levels)], (0, number))[0]


def of_aep(name: str) -> Callable[[Path, np.random.Generator], Iterator[Plane]]:
    """Images as stored."""
    return lambda data, rng: listed(name, data)


def of_semantic(data: Path, rng: np.random.Generator) -> Iterator[Plane]:
    """Images that the crops were cut from: ``focus_crops.py``."""
    rows = json.loads((data / "dsb2018" / "index.json").read_text(encoding="utf-8"))
    for row in rows:
        if (row["type"], row["split"], row["shape"][:2]) == ("fluo", "train", [256, 256]):
            with tifffile.TiffFile(data / "dsb2018" / row["images"]) as file:
                image = file.pages[row["page"]].asarray()
            yield image if image.ndim == 2 else image[..., 0]


MODELS: dict[str, tuple[Callable[[Path, np.random.Generator], Iterator[Plane]], str]] = {
    "nunet": (of_nunet, "nunet.json"), "nunet-guided": (of_nunet, "nunet.json"),
    "aep-nuclei": (of_aep("aep-nuclei.json"), ""), "aep-membrane": (of_aep("aep-membrane.json"), ""),
    "n2v2-fluorescence": (of_denoiser, "n2v2-fluorescence.json"), "care-nuclei": (of_restorer, "care-nuclei.json"),
    "keep-nuclei": (of_semantic, ""),
}  # fmt: skip
"""Model → what it was fed with, and the list of the images as stored, whose grey levels count."""


def measure(feed: Callable[..., Iterator[Plane]], stored: str, data: Path) -> dict[str, tuple[float, float]]:
    """Ranges over all that a model was fed with."""
    ranges = ranges_of([traits for plane in feed(data, np.random.default_rng(0)) if (traits := traits_of(plane))])
    if stored:
        raw = ranges_of([traits_of(plane) for plane in listed(stored, data)])
        ranges |= {trait: raw[trait] for trait in AS_STORED if trait in raw}
    return ranges


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data_root", type=Path)
    parser.add_argument("models", nargs="*", metavar="MODEL_ID")
    options = parser.parse_args()
    measured: dict[Any, dict[str, tuple[float, float]]] = {}
    for model_id in options.models or MODELS:
        kind = MODELS[model_id]
        if kind not in measured:
            measured[kind] = measure(*kind, options.data_root)
        ranges = measured[kind]
        card = find_model(model_id).model_copy(update={"input_ranges": ranges})
        write_entry(ROOT / "weights_manifest.json", card)
        print(model_id, ranges, flush=True)


if __name__ == "__main__":
    main()
