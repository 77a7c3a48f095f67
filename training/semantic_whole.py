"""What a semantic filter does to whole test images of dsb2018, by the labels of all nuclei, as a table.

Usage: python training/semantic_whole.py DATA_ROOT CARD.json-or-id OUT/scores.json
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_cellenhance import separate
from napari_cellenhance.core import metrics
from napari_cellenhance.core.instances import match_instances, overlaps
from napari_cellenhance.core.postprocess import segment
from napari_cellenhance.io.reports import write_json


def scores_of(image: NDArray[np.float32], labels: NDArray[np.integer]) -> dict[str, float]:
    """AUROC and Otsu's IoU of the mask of all nuclei, AP of objects, and light beside nuclei per light of nuclei."""
    scaled = (image - image.min()) / max(float(np.ptp(image)), 1e-6)
    ground = np.median(image[labels == 0])
    return {
        "auroc": metrics.auroc(image, labels > 0),
        "otsu_iou": metrics.otsu_iou(scaled, labels > 0),
        "ap": match_instances(overlaps(labels, segment(scaled))).average_precision,
        "beside": float(np.abs(image - ground)[labels == 0].mean() / (image[labels > 0].mean() - ground)),
    }


def main() -> None:
    warnings.simplefilter("ignore", UserWarning)
    root, model, out = Path(sys.argv[1]) / "dsb2018", sys.argv[2], sys.argv[3]
    rows = json.loads((root / "index.json").read_text(encoding="utf-8"))
    rows = [r for r in rows if (r["type"], r["split"], r["shape"][:2]) == ("fluo", "test", [256, 256])]
    found: dict[str, list[dict[str, float]]] = {"image": [], "kept": []}
    for row in rows:
        image, labels = (tifffile.TiffFile(root / row[k]).pages[row["page"]].asarray() for k in ("images", "labels"))
        image = (image if image.ndim == 2 else image[..., 0]).astype(np.float32)
        found["image"].append(scores_of(image, labels))
        found["kept"].append(scores_of(separate(image, model, device="cpu")[0], labels))
    means = [
        {"method": name, "n": len(all_), **{key: float(np.mean([one[key] for one in all_])) for key in all_[0]}}
        for name, all_ in found.items()
    ]
    for row in means:
        print(row)
    write_json(out, {"rows": means})


if __name__ == "__main__":
    main()
