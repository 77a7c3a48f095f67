"""Time from a stroke to the answer on 512²: the instant learner against a random forest on hand-made features.

Both learn from the same simulated strokes and segment the whole plane; A B A B, medians, after one round that does not
count. Needs the extra "evaluate". Usage: python benchmarks/instant.py [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.feature import multiscale_basic_features
from skimage.filters import threshold_otsu
from sklearn.ensemble import RandomForestClassifier

from napari_cellenhance._sample_data import nuclei
from napari_cellenhance.core.memory import keep_memory
from napari_cellenhance.core.painted import PaintedImage
from napari_cellenhance.core.strokes import simulate_strokes
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows.instant import InstantSession
from napari_cellenhance.workflows.painted_layers import normalised


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/instant.json"))
    options = parser.parse_args()
    rounds = options.rounds
    keep_memory()
    sample = normalised(np.asarray(nuclei()[0][0]))
    plane = np.ascontiguousarray(np.tile(sample, (2, 2))[:512, :512])
    truth = np.where(plane > threshold_otsu(plane), 2, 1).astype(np.int32)
    few = PaintedImage(plane, simulate_strokes(truth, "few", seed=0))
    some = PaintedImage(plane, simulate_strokes(truth, "some", seed=0))
    times: dict[str, list[float]] = {"instant, first stroke": [], "instant, next stroke": [], "forest": []}
    for i in range(rounds + 1):
        session = InstantSession()
        taken = {
            "instant, first stroke": _seconds(partial(session.update, [few], (0, Region.whole(plane)))),
            "instant, next stroke": _seconds(partial(session.update, [some], (0, Region.whole(plane)))),
            "forest": _seconds(partial(_forest, some)),
        }
        for name, seconds in taken.items():
            times[name] += [seconds] if i else []
    rival = median(times["forest"])
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {(some.labels > 0).sum()} painted pixels")
    print("| way | median, s | to the forest |\n|---|---:|---:|")
    for name, seconds in times.items():
        print(f"| {name} | {median(seconds):.2f} | ×{rival / median(seconds):.1f} |")
    report = {
        "cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__, "rounds": rounds,
        "painted_px": int((some.labels > 0).sum()),
        "median_s": {name: median(values) for name, values in times.items()},
        "forest_over": {name: rival / median(values) for name, values in times.items()},
    }  # fmt: skip
    options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _forest(painted: PaintedImage) -> NDArray[Any]:
    features = multiscale_basic_features(painted.image, sigma_min=0.5, sigma_max=16.0)
    is_painted = painted.labels > 0
    forest = RandomForestClassifier(100, random_state=0, n_jobs=-1, max_depth=None)
    forest.fit(features[is_painted], painted.labels[is_painted])
    return np.reshape(forest.predict(features.reshape(-1, features.shape[-1])), painted.image.shape)


if __name__ == "__main__":
    main()
