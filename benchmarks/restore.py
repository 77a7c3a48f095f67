"""Our CARE against that of careamics: seconds of a training step and of a 512² image, and quality after the same time.

    python benchmarks/restore.py                                # speed, some minutes
    python benchmarks/restore.py --pairs FOLDER --test FOLDER --budget 240

careamics is not a dependency; install it beside (``pip install careamics``). Both sides get the same pairs, patches of
64², batches of 16, the absolute error as loss, a U-Net of depth 2 with 32 maps, and the same number of threads; each is
called the way its users call it. careamics has no kernels of 5 px and no likelihood, so the ratios are those of kernels
of 3 px and one head; the published network (5 px, two heads), which is our default, is timed beside them. Speed: the
sides take turns in one process (A B A B …) and medians are compared; a step is the time from one batch to the next,
data included. Quality: both train for the same time on pairs of a folder (``noisy/`` and ``clean/``, as `cellenhance
synthesize` writes them) and are scored on other pairs by the PSNR after the best affine fit (range of the clean image).
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_cellenhance.core.memory import keep_memory
from napari_cellenhance.core.metrics import scale_invariant_psnr
from napari_cellenhance.workflows import restore
from napari_cellenhance.workflows.care_pairs import PairedLayers, read_pair_files
from napari_cellenhance.workflows.noisy_images import NoisyLayer
from napari_cellenhance.workflows.progress import Progress
from napari_cellenhance.workflows.restore import RestoreRequest
from napari_cellenhance.workflows.train_care import CareRequest, run
from napari_cellenhance.workflows.train_progress import TrainProgress

Images = NDArray[np.float32]
Pairs = list[tuple[Images, Images]]
_N_SKIPPED = 5
"""First steps of a call that do not count: they warm up."""
_SAME = {"kernel_px": 3, "loss": "mae"}
"""What makes our network that of careamics."""


def _pairs() -> Pairs:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:512, :512]
    clean = (0.5 + 0.5 * np.sin(x / 9.0) * np.cos(y / 13.0)).astype(np.float32)
    return [(rng.normal(clean, 0.3).astype(np.float32), clean) for _ in range(6)]


def _ours(pairs: Pairs, out: Path, **settings: Any) -> tuple[list[float], str]:
    """Times of all steps, and the card of the model."""
    ticks: list[float] = []

    def tick(progress: Progress) -> None:
        if isinstance(progress, TrainProgress):
            ticks.append(time.perf_counter())

    layers = tuple(
        PairedLayers(
            poor=NoisyLayer(name=f"poor {i}", image=poor, axes="YX"),
            clean=NoisyLayer(name=f"clean {i}", image=clean, axes="YX"),
        )
        for i, (poor, clean) in enumerate(pairs)
    )
    request = CareRequest(
        data=layers, out=out, model_id="benchmark", install=False, n_threads=torch.get_num_threads(), **settings
    )
    result = run(request, on_progress=tick)
    return list(np.diff(ticks)), str(result.card)


def _theirs(pairs: Pairs, out: Path, n_steps: int, **trainer: Any) -> tuple[list[float], Any]:
    """Times of all steps, and the trained object."""
    from careamics import CAREamist
    from careamics.config.factories.care_n2n_factory import create_advanced_care_config
    from lightning.pytorch.callbacks import Callback

    ticks: list[float] = []

    class Tick(Callback):  # type: ignore[misc]
        def on_train_batch_end(self, *_: Any, **__: Any) -> None:
            ticks.append(time.perf_counter())

    config = create_advanced_care_config(
        experiment_name="benchmark", data_type="array", axes="YX", patch_size=[64, 64], batch_size=16,
        num_steps=n_steps, num_workers=0, seed=1, **trainer,
    )  # fmt: skip
    careamist = CAREamist(config, work_dir=out, callbacks=[Tick()], enable_progress_bar=False)
    careamist.train(train_data=[poor for poor, _ in pairs], train_data_target=[clean for _, clean in pairs])
    return list(np.diff(ticks)), careamist


def _predicted(careamist: Any, image: Images) -> Images:
    found, _ = careamist.predict(pred_data=image, axes="YX", data_type="array")
    return np.asarray(found[0] if isinstance(found, list) else found, np.float32).reshape(image.shape)


# --- speed ------------------------------------------------------------------------------------


def _speed(n_rounds: int, n_steps: int) -> list[dict[str, Any]]:
    pairs = _pairs()
    steps: dict[str, list[float]] = {"ours": [], "careamics": [], "published": []}
    with tempfile.TemporaryDirectory() as folder:
        cards, theirs = {"ours": "", "published": ""}, None
        for i in range(n_rounds):
            for name, settings in (("ours", _SAME), ("published", {})):
                found, cards[name] = _ours(
                    pairs, Path(folder) / f"{name}{i}", n_steps=n_steps, validate_every=n_steps, **settings
                )
                steps[name] += found[_N_SKIPPED:-1]
            found, theirs = _theirs(pairs, Path(folder) / f"b{i}", n_steps, num_epochs=1)
            steps["careamics"] += found[_N_SKIPPED:]
        return [_row("training step, batch 16 of 64²", steps), *_inference(pairs[0][0], cards, theirs, n_rounds)]


def _inference(image: Images, cards: dict[str, str], careamist: Any, n_rounds: int) -> list[dict[str, Any]]:
    opened = {name: restore.open_restorer(card, "cpu") for name, card in cards.items()}
    jobs = {name: RestoreRequest(image=image, axes="YX", model_id=card) for name, card in cards.items()}
    network = careamist.model.model.eval()
    x = torch.from_numpy(image)[None, None]
    calls: dict[str, list[float]] = {"ours": [], "careamics": [], "published": []}
    alone: dict[str, list[float]] = {"ours": [], "careamics": [], "published": []}
    for _ in range(max(5, 3 * n_rounds)):
        for name in cards:
            calls[name].append(_timed(lambda name=name: restore.apply(jobs[name], opened[name])))
            alone[name].append(_timed(lambda name=name: opened[name].restorer.restore(image)))
        calls["careamics"].append(_timed(lambda: _predicted(careamist, image)))
        with torch.inference_mode():
            alone["careamics"].append(_timed(lambda: network(x)))
    return [_row("512² image, whole call", calls), _row("512² image, network alone", alone)]


def _timed(work: Any) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _row(what: str, seconds: dict[str, list[float]]) -> dict[str, Any]:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "what": what, "n": min(len(v) for v in seconds.values()),
        **{f"{name}_ms": round(1000 * value, 1) for name, value in medians.items()},
        "ratio": round(medians["careamics"] / medians["ours"], 2),
        "published_ratio": round(medians["careamics"] / medians["published"], 2),
    }  # fmt: skip


# --- quality ----------------------------------------------------------------------------------


def _quality(train: Path, test: Path, budget_s: float) -> list[dict[str, Any]]:
    pairs = [(pair.poor, pair.clean) for pair in read_pair_files(train)]
    held_out = read_pair_files(test)
    results: dict[str, tuple[list[Images], int, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in (("ours", _SAME), ("published", {})):
            begun = time.perf_counter()
            ticks, card = _ours(pairs, Path(folder) / name, n_steps=0, time_limit_s=budget_s, **settings)
            took = time.perf_counter() - begun
            opened = restore.open_restorer(card, "cpu")
            found = [restore.apply(RestoreRequest(image=p.poor, axes="YX"), opened).image for p in held_out]
            results[name] = (found, len(ticks) + 1, took)
        begun = time.perf_counter()
        ticks, careamist = _theirs(
            pairs, Path(folder) / "b", 100, num_epochs=1000, trainer_params={"max_time": {"seconds": budget_s}}
        )
        took = time.perf_counter() - begun
        results["careamics"] = ([_predicted(careamist, p.poor) for p in held_out], len(ticks) + 1, took)
    results["poor"] = ([p.poor for p in held_out], 0, 0.0)
    rows = []
    for name, (images, n_steps, took) in results.items():
        scores = [
            scale_invariant_psnr(a, p.clean, float(np.ptp(p.clean))) for a, p in zip(images, held_out, strict=True)
        ]
        rows.append({"who": name, "steps": n_steps, "seconds": round(took), "psnr": round(float(np.mean(scores)), 2)})
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--budget", type=float, default=240.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    keep_memory()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.pairs:
        rows = _quality(arguments.pairs, arguments.test or arguments.pairs, arguments.budget)
    else:
        rows = _speed(arguments.rounds, arguments.steps)
    record = {
        "threads": torch.get_num_threads(), "machine": platform.machine(), "torch": torch.__version__, "rows": rows,
    }  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2))
    for row in rows:
        print(" | ".join(f"{key} {value}" for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
