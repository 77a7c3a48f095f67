"""Score trained filters on whole validation images of the training split: how checkpoints are chosen.

Usage: python training/validation_scores.py --data-root DATA raw nunet-guided nunet MY_MODEL …

The tenth of each source that no training of seed 0 has seen, as acquired and with noise (5 photons at the brightest
pixel, read noise 0.4). Otsu IoU, AUROC, AP at IoU 0.5 of Otsu and watershed, and blob F1 at the best of six thresholds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.instances import match_instances, overlaps
from napari_cellenhance.core.metrics import auroc, match_points, otsu_iou
from napari_cellenhance.core.noise import poisson_gaussian
from napari_cellenhance.core.postprocess import blob_candidates, centroids, segment
from napari_cellenhance.core.sources import split_sources, with_labels
from napari_cellenhance.io.datasets import read_sources
from napari_cellenhance.workflows._evaluate_filters import Bench

ROOT = Path(__file__).resolve().parents[1]
THRESHOLDS = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3)
STRENGTHS = (2.5, 5.0, 10.0)
PHOTONS, READ_SIGMA = 5.0, 0.4
MAX_IMAGES, MAX_SIDE_PX, MIN_SIZE_PX = 6, 512, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("filters", nargs="+", help="raw, or ids of models")
    parser.add_argument("--data-root", type=Path, required=True)
    options = parser.parse_args()
    sources = read_sources(ROOT / "training" / "nunet.json", data_root=options.data_root)
    _, held_out = split_sources(sources, 0.1, np.random.default_rng(0))
    bench = Bench("cpu", "auto", lambda: None)
    print(
        "| images | filter | strength | n | Otsu IoU | AUROC | AP | blob F1 |\n|---|---|---:|---:|---:|---:|---:|---:|"
    )
    for quality in ("as acquired", "noisy"):
        table: dict[tuple[str, str, float], list[list[float]]] = {}
        for source in with_labels(held_out):
            kind = "fluorescence" if "fluorescence" in source.name else source.name.removeprefix("dsb2018 ")
            for index in range(min(MAX_IMAGES, len(source.images))):
                window = np.s_[:MAX_SIDE_PX, :MAX_SIDE_PX]
                image, labels = source.images[index][window], source.labels[index]
                assert labels is not None
                labels = labels[window]
                if not labels.any():
                    continue
                if quality == "noisy":
                    image = poisson_gaussian(image, PHOTONS, READ_SIGMA, np.random.default_rng(index))
                for name in options.filters:
                    strengths = (0.0,) if name == "raw" else STRENGTHS
                    outputs = bench.apply(image, name, strengths)
                    for strength, output in zip(strengths, outputs, strict=True):
                        scores = _scores(output, labels, source.diameters_px[index])
                        table.setdefault((kind, name, strength), []).append(scores)
        for (kind, name, strength), rows in sorted(table.items()):
            means = np.mean(rows, axis=0)
            cells = " | ".join(f"{v:.3f}" for v in (*means[:3], means[3:].max()))
            print(f"| {kind}, {quality} | {name} | {strength:g} | {len(rows)} | {cells} |", flush=True)


def _scores(output: NDArray[np.float32], labels: NDArray[np.integer], diameter_px: float) -> list[float]:
    """Otsu IoU, AUROC, AP, and blob F1 at each threshold."""
    points, responses = blob_candidates(output, diameter_px / 2)
    truth = centroids(labels)
    found = overlaps(labels, segment(output, min_size_px=MIN_SIZE_PX))
    f1 = [match_points(points[responses >= t], truth, diameter_px / 2).f1 for t in THRESHOLDS]
    return [otsu_iou(output, labels > 0), auroc(output, labels > 0), match_instances(found).average_precision, *f1]


if __name__ == "__main__":
    main()
