"""What the suggested strength and the persistence map are worth, on labelled images of the training split.

Usage: python training/strength.py --data-root DATA --model nunet-guided --out runs/strength.json

Two tables in Markdown. First: average precision at IoU 0.5 of Otsu and watershed, and blob F1 at one fixed threshold,
at the default strength, at the suggested one, and at the best one for each image. Second: whether objects that last as
the strength rises are real.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.instances import match_instances, overlaps
from napari_cellenhance.core.metrics import auroc
from napari_cellenhance.core.noise import poisson_gaussian
from napari_cellenhance.core.object_scores import f1_at_one_scale
from napari_cellenhance.core.persistence import follow
from napari_cellenhance.core.postprocess import centroids, segment
from napari_cellenhance.core.suggestion import choose
from napari_cellenhance.io.labelled import LabelledImage, Selection, read_labelled
from napari_cellenhance.io.safe_write import atomic_path
from napari_cellenhance.workflows._evaluate_filters import Bench
from napari_cellenhance.workflows.catalog import describe
from napari_cellenhance.workflows.suggest import candidates

ROOT = Path(__file__).resolve().parents[1]
PHOTONS, READ_SIGMA = 10.0, 0.15
MIN_SIZE_PX, F1_THRESHOLD, MAX_SIDE_PX = 30, 0.1, 520


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--model", default="nunet-guided")
    parser.add_argument("--max-images", type=int, default=14, help="of each type")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    images = read_labelled(
        ROOT / "training" / "nunet-train-eval.json",
        data_root=options.data_root,
        selection=Selection(max_images=options.max_images, seed=options.seed),
    )
    images = [image for image in images if "bright field" not in image.source and image.labels is not None]
    info = describe(options.model).info.strength
    strengths, bench = candidates(info), Bench("cpu", "auto", lambda: None)
    rows = []
    for index, image in enumerate(images):
        rows += [
            _row(image, quality, index, options.model, strengths, info.default, bench)
            for quality in ("as acquired", "noisy")
        ]
        print(f"{index + 1} of {len(images)}", flush=True)
    with atomic_path(options.out) as temporary:
        temporary.write_text(json.dumps({"model": options.model, "strengths": strengths, "rows": rows}, indent=1))
    print(_suggestion_table(rows, strengths, info.default))
    print()
    print(_persistence_table(rows))


def _row(
    image: LabelledImage,
    quality: str,
    seed: int,
    model: str,
    strengths: tuple[float, ...],
    default: float,
    bench: Bench,
) -> dict[str, Any]:
    assert image.labels is not None
    side = np.s_[:MAX_SIDE_PX, :MAX_SIDE_PX]
    pixels, labels = image.image[side], image.labels[side]
    if quality == "noisy":
        pixels = poisson_gaussian(
            pixels / max(float(pixels.max()), 1e-6), PHOTONS, READ_SIGMA, np.random.default_rng(seed)
        )
    outputs = bench.apply(pixels, model, strengths)
    cuts = [segment(output, min_size_px=MIN_SIZE_PX) for output in outputs]
    wanted = centroids(labels)
    return {
        "source": image.source,
        "name": image.name,
        "quality": quality,
        "suggested": choose(outputs, strengths, default).strength,
        "ap": [match_instances(overlaps(labels, cut)).average_precision for cut in cuts],
        "f1": [float(f1_at_one_scale(o, wanted, image.diameter_px, [F1_THRESHOLD])[0]) for o in outputs],
        "objects": _objects(cuts, strengths, labels),
    }


def _objects(cuts: list[Any], strengths: tuple[float, ...], labels: NDArray[np.int32]) -> list[dict[str, Any]]:
    """Persistence of each object, whether it appears late, and whether half of it lies on annotated ones."""
    followed = follow(cuts, strengths)
    n = int(followed.labels.max()) + 1
    area = np.bincount(followed.labels.ravel(), minlength=n)
    on = np.bincount(followed.labels.ravel(), weights=(labels > 0).ravel(), minlength=n)
    table = followed.table
    return [
        {"persistence": float(p), "is_late": bool(late), "is_real": bool(on[i] >= 0.5 * area[i])}
        for i, p, late in zip(table.label, table.persistence, table.is_late, strict=True)
        if area[i]
    ]


def _suggestion_table(rows: list[dict[str, Any]], strengths: tuple[float, ...], default: float) -> str:
    fixed = strengths.index(min(strengths, key=lambda w: abs(w - default)))
    by_mean = int(np.argmax(np.mean([row["ap"] for row in rows], axis=0)))
    choices = {
        f"{strengths[fixed]:g}, the default": lambda row: fixed,
        f"{strengths[by_mean]:g}, the best fixed one here": lambda row: by_mean,
        "**suggested**": lambda row: strengths.index(row["suggested"]),
        "best for each image, knowing the truth": lambda row: int(np.argmax(row["ap"])),
    }
    groups = [(s, q) for s in sorted({row["source"] for row in rows}) for q in ("as acquired", "noisy")]
    lines = [
        f"| strength | {' | '.join(f'{s}, {q}' for s, q in groups)} | all |",
        f"|---|{'---:|' * (len(groups) + 1)}",
    ]
    for name, choice in choices.items():
        cells = []
        for group in [*groups, None]:
            chosen = [row for row in rows if group is None or (row["source"], row["quality"]) == group]
            means = [np.mean([row[key][choice(row)] for row in chosen]) for key in ("ap", "f1")]
            cells.append(" / ".join(f"{m:.3f}" for m in means))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    gains = [row["ap"][strengths.index(row["suggested"])] - row["ap"][fixed] for row in rows]
    better, worse = sum(g > 0 for g in gains), sum(g < 0 for g in gains)
    lines += ["", f"{len(rows)} images: by AP {better} got better than at the default, {worse} worse."]
    return "\n".join(lines)


def _persistence_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| images | objects | real | AUROC | real among those that last | real among those only at high strength |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for group in sorted({(row["source"], row["quality"]) for row in rows}):
        objects = [o for row in rows if (row["source"], row["quality"]) == group for o in row["objects"]]
        early = [o for o in objects if not o["is_late"]]
        late = [o for o in objects if o["is_late"]]
        lasting = [o for o in early if o["persistence"] >= 0.9]
        real = np.array([o["is_real"] for o in early])
        area = auroc(np.array([o["persistence"] for o in early]), real) if 0 < real.sum() < len(real) else float("nan")
        lines.append(
            f"| {group[0]}, {group[1]} | {len(objects)} | {_share(objects)} | {area:.3f} | "
            f"{_share(lasting)} of {len(lasting)} | {_share(late)} of {len(late)} |"
        )
    return "\n".join(lines)


def _share(objects: list[dict[str, Any]]) -> str:
    return f"{100 * np.mean([o['is_real'] for o in objects]):.0f} %" if objects else "none"


if __name__ == "__main__":
    main()
