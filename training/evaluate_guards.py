"""How often each guard finds what was planted, and how often it cries wolf; tables of docs/trust.md.

Usage: python training/evaluate_guards.py DATA_ROOT OUT.json [--images 40]

Test images of BBBC038 (dsb2018), no training image. Results of n2v2-fluorescence, care-nuclei and nunet-guided, as they
are, and with something planted: two objects removed, two objects added at 50 % of the contrast, texture of 20 % of the
contrast invented in two objects, halos of 25 % around all objects.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from napari_cellenhance.core import half_inputs
from napari_cellenhance.core.doubt import contrast_of, likely_error
from napari_cellenhance.core.input_traits import is_empty, outside, traits_of
from napari_cellenhance.core.metrics import auroc
from napari_cellenhance.core.microscope import expose, levels_from
from napari_cellenhance.core.noise_model import estimate_noise
from napari_cellenhance.core.object_size import median_diameter
from napari_cellenhance.core.object_support import check_support
from napari_cellenhance.core.residuals import check_residual, fit_result
from napari_cellenhance.io.datasets import read_planes
from napari_cellenhance.io.reports import write_json
from napari_cellenhance.workflows._batch_steps import Machine
from napari_cellenhance.workflows._rerun import Rerun
from napari_cellenhance.workflows.batch_recipe import step_for_model
from napari_cellenhance.workflows.input_guards import InputWatch
from napari_cellenhance.workflows.progress import never_cancelled, no_progress
from napari_cellenhance.zoo.manifest import find_model

MODELS = ("n2v2-fluorescence", "care-nuclei", "nunet-guided")
PX, RERUN_PX = 256, 160
SHARE = 0.1
NOISES = (0.1, 0.3)
"""Added to two images each in turn, as shares of their contrast."""
LIMITS = (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2)
"""Of the maps of reruns, as shares of the contrast."""
HALVES = ("chosen on", "reported on")
"""Every second image: thresholds are chosen on the one, and told of the other."""
ROOT = Path(__file__).resolve().parents[1]

Plane = NDArray[Any]


def dsb(data: Path, kind: str) -> tuple[list[Plane], list[Plane]]:
    """Test images and labels of one kind."""
    where = {"type": kind, "split": "test"}
    planes, labels = read_planes({"name": kind, "index": "dsb2018/index.json", "where": where}, data)
    return planes, [np.asarray(one) for one in labels]


def contrast(plane: Plane) -> float:
    return float(contrast_of(np.asarray(plane, np.float32)).max())


def planted(result: Plane, labels: Plane, rng: np.random.Generator) -> dict[str, Plane]:
    """The result, and what could have been made up."""
    r, size = np.asarray(result, np.float64), contrast(result)
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    chosen = np.isin(labels, rng.choice(ids[areas > 60], 2, replace=False))
    soft = np.clip(2 * gaussian_filter(chosen.astype(float), 1.5), 0, 1)
    texture = gaussian_filter(rng.normal(size=r.shape), 1.0)
    halo = gaussian_filter((labels > 0).astype(float), 2) - gaussian_filter((labels > 0).astype(float), 5)
    found = {
        "nothing": r,
        "removed": r * (1 - soft) + np.percentile(r, 20) * soft,
        "texture": r + 0.2 * size * chosen * texture / texture.std(),
        "halos": r - 0.25 * size * halo / np.abs(halo).max(),
    }
    is_near = gaussian_filter((labels > 0).astype(float), 3) > 0.05
    for _ in range(300):
        moved = np.roll(chosen, tuple(rng.integers(-120, 120, 2)), (0, 1))
        if not (moved & is_near).any():
            found["added"] = r + 0.5 * size * np.clip(gaussian_filter(moved.astype(float), 1.5), 0, 1)
            break
    return found


def of_results(images: Sequence[tuple[Plane, Plane]]) -> list[dict[str, Any]]:
    """Residual and objects, on planted results."""
    rows: dict[tuple[str, str, str], list[list[bool]]] = defaultdict(list)
    rng = np.random.default_rng(0)
    for number, (plane, labels) in enumerate(images):
        noisy = (plane + rng.normal(0, 0.1 * contrast(plane), plane.shape)).astype(np.float32)
        for quality, image in (("as acquired", plane), ("noise of 10 %", noisy)):
            for model_id in MODELS:
                result, _ = rerun(model_id, image)
                fit = "monotone" if model_id.startswith("nunet") else "affine"
                for what, picture in planted(result, labels, rng).items():
                    residual = check_residual(image, picture, fit=fit)  # type: ignore[arg-type]
                    support = check_support(image, picture, noise=residual.noise)
                    counts = residual.count("removed") + residual.count("added")
                    rows[model_id, quality, what].append([counts > 0, residual.is_flagged, support.is_flagged])
        print("planted", number, flush=True)
    return [
        {
            "model": model, "quality": quality, "planted": what, "n": len(found),
            **dict(zip(("residual_doubt", "residual_look", "objects"), np.mean(found, 0).tolist(), strict=True)),
        }
        for (model, quality, what), found in rows.items()
    ]  # fmt: skip


_OPENED: dict[str, Rerun] = {}


def rerun(model_id: str, plane: Plane) -> tuple[Plane, dict[str, Plane]]:
    """What a model makes of a plane, and beside it."""
    if model_id not in _OPENED:
        step = step_for_model(model_id)
        _OPENED[model_id] = Rerun(step, Machine(), plane, no_progress, never_cancelled)
    return _OPENED[model_id].make(plane)


def of_reruns(images: Sequence[tuple[Plane, Plane]], keep: Callable[[Any], None]) -> dict[str, Any]:
    """Whether spread, halves and CARE's scale are large where the result is wrong; at noise of 10 and 30 %."""
    rng = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    report: dict[str, Any] = {}
    for number, (plane, _) in enumerate(images):
        noise = NOISES[number // 2 % 2]
        plane = plane[:RERUN_PX, :RERUN_PX]
        noisy = (plane + rng.normal(0, noise * contrast(plane), plane.shape)).astype(np.float32)
        for model_id in MODELS:
            about = {"image": number, "half": HALVES[number % 2], "noise": noise, "model": model_id}
            rows += [about | row for row in _one_rerun(model_id, plane, noisy, rng)]
        report = {"thresholds": list(LIMITS), "summary": summary(rows), "rows": rows}
        keep(report)
        print("rerun", number, flush=True)
    return report


def _one_rerun(model_id: str, plane: Plane, noisy: Plane, rng: np.random.Generator) -> list[dict[str, Any]]:
    result, beside = rerun(model_id, noisy)
    truth = plane if not model_id.startswith("nunet") else rerun(model_id, plane)[0]
    fitted = fit_result(np.asarray(truth, np.float64), np.asarray(result, np.float64), "affine")
    is_wrong = np.abs(fitted - truth) > SHARE * contrast(truth)
    copies = [back(rerun(model_id, copy)[0]) for copy, back in half_inputs.symmetries(noisy)]
    maps = {"spread": half_inputs.spread(copies)}
    pairs = {
        "halves of the pixels": half_inputs.checkerboard_halves(noisy),
        "images with more noise": half_inputs.noise_halves(noisy, estimate_noise(noisy), rng),
    }
    for name, pair in pairs.items():
        first, second = (rerun(model_id, half)[0] for half in pair)
        maps[name] = half_inputs.compare_halves(first, second, contrast(result)).difference
    if "uncertainty" in beside:
        maps["CARE's scale"] = likely_error(beside["uncertainty"])
    found = []
    for name, values in maps.items():
        flagged = [values > limit * contrast(result) for limit in LIMITS]
        is_ranked = is_wrong.any() and not is_wrong.all()
        found.append({
            "guard": name, "wrong": float(is_wrong.mean()),
            "auroc": auroc(gaussian_filter(values, 1.0), is_wrong) if is_ranked else None,
            "flagged": [float(each.mean()) for each in flagged],
            "caught": [float(each[is_wrong].mean()) if is_wrong.any() else None for each in flagged],
            "false": [float(each[~is_wrong].mean()) if not is_wrong.all() else None for each in flagged],
        })  # fmt: skip
    return found


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean of each guard by half, model and noise, at each threshold."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["guard"], row["half"], row["model"], row["noise"]].append(row)
    return [
        {"guard": guard, "half": half, "model": model, "noise": noise, "n": len(found),
         "wrong": _mean([one["wrong"] for one in found]), "auroc": _mean([one["auroc"] for one in found]),
         **{key: [_mean(values) for values in zip(*(one[key] for one in found), strict=True)]
            for key in ("caught", "false")}}
        for (guard, half, model, noise), found in groups.items()
    ]  # fmt: skip


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 4) if known else None


def of_inputs(data: Path) -> list[dict[str, Any]]:
    """Share of images that are called unlike those of the training."""
    rng = np.random.default_rng(2)
    fluo, histology, bright = (dsb(data, kind)[0] for kind in ("fluo", "histology", "brightfield"))
    with np.load(data / "isbi2012/isbi2012.npz", allow_pickle=False) as archive:
        micrographs = archive["images"][archive["test_idx"]] if "test_idx" in archive else archive["images"][24:]
    levels = levels_from(json.loads((ROOT / "training/care-nuclei-levels.json").read_text(encoding="utf-8")))
    poor = [
        expose(((p - p.min()) / np.ptp(p)).astype(np.float32), np.ones((1, 1)), levels[i % 3], (9, i))[0]
        for i, p in enumerate(fluo)
    ]
    small = [p[:PX, :PX] for p in fluo]
    kinds = {
        "fluorescence": fluo, "fluorescence, made poor": poor, "fluorescence, 4 times larger":
        [zoom(p.astype(np.float32), 4, order=1)[:512, :512] for p in small],
        "fluorescence, noise of 60 %": [p + rng.normal(0, 0.6 * contrast(p), p.shape) for p in small],
        "histology": histology, "bright field": bright, "electron micrographs": list(micrographs),
    }  # fmt: skip
    traits = {kind: [found for plane in planes if (found := traits_of(plane))] for kind, planes in kinds.items()}
    return [
        {"model": model_id, "kind": kind, "n": len(found),
         "flagged": float(np.mean([bool(outside(one, find_model(model_id).input_ranges)) for one in found])),
         "by_trait": dict(_count(found, model_id))}
        for model_id in (*MODELS, "nunet", "aep-nuclei", "aep-membrane") for kind, found in traits.items()
    ]  # fmt: skip


def _count(found: Sequence[dict[str, float]], model_id: str) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for one in found:
        for strange in outside(one, find_model(model_id).input_ranges):
            counts[strange.trait] += 1
    return counts


def of_sizes(data: Path) -> list[dict[str, Any]]:
    """Diameters told of scaled images whose labels are known, and what the card of NU-Net makes of them."""
    planes, labels = dsb(data, "fluo")
    rows: dict[bool, list[bool]] = defaultdict(list)
    low, high = find_model("nunet").object_diameter_px or (0.0, 0.0)
    for number in np.random.default_rng(0).permutation(len(planes))[:30]:
        true = median_diameter(labels[number][:PX, :PX])
        for factor in (0.25, 0.5, 1.0, 2.0, 4.0):
            plane = planes[number][:PX, :PX]
            watch = InputWatch(find_model("nunet"))
            watch.see(plane if factor == 1.0 else zoom(plane.astype(np.float32), factor, order=1))
            if true is not None:
                rows[low <= true * factor <= high].append(any(one.guard == "size" for one in watch.findings()))
    return [
        {"is_known_size": is_known, "n": len(found), "flagged": float(np.mean(found))}
        for is_known, found in rows.items()
    ]


def of_empty(data: Path) -> list[dict[str, Any]]:
    """Planes of noise on an uneven ground that are called empty, and images of nuclei that are."""
    rng = np.random.default_rng(3)
    grounds = 1 + 0.3 * np.sin(np.linspace(0, 3, PX))[:, None] * np.cos(np.linspace(0, 2, PX))
    kinds: dict[str, list[Plane]] = {
        f"shot noise of {n} photons": [rng.poisson(n * grounds) for _ in range(100)] for n in (3, 30, 300)
    }
    kinds["noise smoothed with σ 0.7 px"] = [gaussian_filter(rng.normal(size=(PX, PX)), 0.7) for _ in range(100)]
    fluo = dsb(data, "fluo")[0]
    for share in (0.0, 0.3, 1.0):
        kinds[f"nuclei, noise of {100 * share:g} %"] = [p + rng.normal(0, share * contrast(p), p.shape) for p in fluo]
    return [
        {"kind": kind, "n": len(planes), "empty": float(np.mean([is_empty(plane) for plane in planes]))}
        for kind, planes in kinds.items()
    ]


def of_noise() -> dict[str, float]:
    """False alarms of the residual on pure noise around a known signal."""
    rng = np.random.default_rng(4)
    signal = 100 + 50 * np.sin(np.arange(PX) / 40)[None, :] * np.ones((PX, 1))
    found = [check_residual(rng.poisson(signal).astype(np.float32), signal, seed=n) for n in range(100)]
    return {
        "n": len(found), "below_1_percent": float(np.mean([one.p < 0.01 for one in found])),
        "flagged": float(np.mean([one.is_flagged for one in found])),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data_root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument(
        "--only", nargs="*", default=(), metavar="PART", help="inputs, sizes, empty, noise, results, reruns"
    )
    options = parser.parse_args()
    planes, labels = dsb(options.data_root, "fluo")
    pairs = [(p[:PX, :PX], lab[:PX, :PX]) for p, lab in zip(planes, labels, strict=True)]
    able = [pair for pair in pairs if (np.unique(pair[1][pair[1] > 0], return_counts=True)[1] > 60).sum() >= 4]
    drawn = np.random.default_rng(5).permutation(len(able))[: options.images]
    chosen = [able[i] for i in drawn]
    report: dict[str, Any] = {}

    def keep_reruns(found: Any) -> None:
        write_json(options.out, report | {"reruns": found})

    for name, work in (
        ("inputs", lambda: of_inputs(options.data_root)), ("sizes", lambda: of_sizes(options.data_root)),
        ("empty", lambda: of_empty(options.data_root)), ("noise", of_noise),
        ("results", lambda: of_results(chosen[:20])), ("reruns", lambda: of_reruns(chosen, keep_reruns)),
    ):  # fmt: skip
        if options.only and name not in options.only:
            continue
        report[name] = work()
        write_json(options.out, report)
        if name != "reruns":
            for row in report[name] if isinstance(report[name], list) else [report[name]]:
                print(row, flush=True)


if __name__ == "__main__":
    main()
