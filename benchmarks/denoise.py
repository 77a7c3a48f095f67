"""Our N2V2 against that of careamics: seconds of a training step, of a 512² image, and quality after the same time.

    python benchmarks/denoise.py                                   # speed, some minutes
    python benchmarks/denoise.py --pairs PAIRS.json --data-root DIR --budget 240 --source 0

careamics is not a dependency; install it beside (``pip install careamics``). Both sides get the same images, patches of
64², batches of 16, a U-Net of depth 2 with 32 maps, and the same number of threads; each is called the way its users
call it. Speed: the sides take turns in one process (A B A B …) and medians are compared. A step is the time from one
batch to the next, data included. Quality: both train for the same time on the noisy images and are scored by the PSNR
after the best affine fit (range 255).
"""

from __future__ import annotations

import argparse
import itertools
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
from napari_cellenhance.io.pairs import read_pairs
from napari_cellenhance.workflows import denoise
from napari_cellenhance.workflows.denoise import DenoiseRequest
from napari_cellenhance.workflows.noisy_images import NoisyLayer
from napari_cellenhance.workflows.progress import Progress
from napari_cellenhance.workflows.train_n2v import N2VRequest, run
from napari_cellenhance.workflows.train_progress import TrainProgress

Images = NDArray[np.float32]
_N_SKIPPED = 5
"""First steps of a call that do not count: they warm up."""


def _noisy_images() -> Images:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:512, :512]
    clean = 0.5 + 0.5 * np.sin(x / 9.0) * np.cos(y / 13.0)
    return rng.normal(clean, 0.3, (6, 512, 512)).astype(np.float32)


# --- ours -------------------------------------------------------------------------------------


def _ours(images: Images, out: Path, **settings: Any) -> tuple[list[float], str]:
    """Times of all steps, and the card of the model."""
    ticks: list[float] = []

    def tick(progress: Progress) -> None:
        if isinstance(progress, TrainProgress):
            ticks.append(time.perf_counter())

    layers = tuple(NoisyLayer(name=str(i), image=image, axes="YX") for i, image in enumerate(images))
    request = N2VRequest(
        data=layers, out=out, model_id="benchmark", install=False, n_threads=torch.get_num_threads(), **settings
    )
    result = run(request, on_progress=tick)
    return list(np.diff(ticks)), str(result.card)


# --- careamics --------------------------------------------------------------------------------


def _theirs(images: Images, out: Path, n_steps: int, **trainer: Any) -> tuple[list[float], Any]:
    """Times of all steps, and the trained object."""
    from careamics import CAREamist
    from careamics.config import create_advanced_n2v_config
    from lightning.pytorch.callbacks import Callback

    ticks: list[float] = []

    class Tick(Callback):  # type: ignore[misc]
        def on_train_batch_end(self, *_: Any, **__: Any) -> None:
            ticks.append(time.perf_counter())

    config = create_advanced_n2v_config(
        experiment_name="benchmark", data_type="array", axes="SYX", patch_size=[64, 64], batch_size=16,
        num_steps=n_steps, use_n2v2=True, num_workers=0, seed=1, **trainer,
    )  # fmt: skip
    careamist = CAREamist(config, work_dir=out, callbacks=[Tick()], enable_progress_bar=False)
    careamist.train(train_data=images)
    return list(np.diff(ticks)), careamist


def _their_network(careamist: Any) -> torch.nn.Module:
    module: torch.nn.Module = careamist.model.model.eval()
    return module


# --- speed ------------------------------------------------------------------------------------


def _speed(n_rounds: int, n_steps: int) -> list[dict[str, Any]]:
    images = _noisy_images()
    steps: dict[str, list[float]] = {"ours": [], "careamics": []}
    with tempfile.TemporaryDirectory() as folder:
        card, theirs = "", None
        for i in range(n_rounds):
            found, card = _ours(images, Path(folder) / f"a{i}", n_steps=n_steps, validate_every=n_steps)
            steps["ours"] += found[_N_SKIPPED:-1]
            found, theirs = _theirs(images, Path(folder) / f"b{i}", n_steps, num_epochs=1)
            steps["careamics"] += found[_N_SKIPPED:]
        rows = [_row("training step, batch 16 of 64²", steps)]
        rows += _inference(images[0], card, theirs, n_rounds)
    return rows


def _inference(image: Images, card: str, careamist: Any, n_rounds: int) -> list[dict[str, Any]]:
    opened = denoise.open_denoiser(card, "cpu")
    job = DenoiseRequest(image=image, axes="YX", model_id=card)
    network = _their_network(careamist)
    x = torch.from_numpy(image)[None, None]
    calls: dict[str, list[float]] = {"ours": [], "careamics": []}
    alone: dict[str, list[float]] = {"ours": [], "careamics": []}
    for _ in range(max(5, 3 * n_rounds)):
        calls["ours"].append(_timed(lambda: denoise.apply(job, opened)))
        calls["careamics"].append(_timed(lambda: careamist.predict(pred_data=image, axes="YX", data_type="array")))
        alone["ours"].append(_timed(lambda: opened.denoiser.denoise(image[None])))
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
    }  # fmt: skip


# --- quality ----------------------------------------------------------------------------------


def _quality(pairs: Path, data_root: Path | None, which: int, budget_s: float) -> list[dict[str, Any]]:
    source = read_pairs(pairs, data_root=data_root)[which]
    images = np.stack(source.noisy)
    with tempfile.TemporaryDirectory() as folder:
        times, card = _ours(images, Path(folder) / "a", n_steps=0, time_limit_s=budget_s)
        opened = denoise.open_denoiser(card, "cpu")
        ours = [denoise.apply(DenoiseRequest(image=i, axes="YX", model_id=card), opened).image for i in images]
        begun = time.perf_counter()
        their_times, careamist = _theirs(
            images, Path(folder) / "b", 100, num_epochs=1000, trainer_params={"max_time": {"seconds": budget_s}}
        )
        took = time.perf_counter() - begun
        found, _ = careamist.predict(pred_data=images, axes="SYX", data_type="array")
        theirs = list(np.concatenate([np.asarray(one).reshape(-1, *images.shape[1:]) for one in found]))
    rows = []
    for name, restored, n in (
        ("noisy", images, 0),
        ("ours", ours, len(times) + 1),
        ("careamics", theirs, len(their_times) + 1),
    ):
        scores = [scale_invariant_psnr(a, b, 255.0) for a, b in zip(restored, source.clean, strict=True)]
        rows.append({"source": source.name, "who": name, "steps": n, "psnr": round(float(np.mean(scores)), 2)})
    rows[-1]["seconds"] = round(took)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--source", type=int, default=0)
    parser.add_argument("--budget", type=float, default=240.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    keep_memory()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.pairs:
        rows = _quality(arguments.pairs, arguments.data_root, arguments.source, arguments.budget)
    else:
        rows = _speed(arguments.rounds, arguments.steps)
    record = {
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "rows": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2))
    for row in rows:
        print(" | ".join(f"{key} {value}" for key, value in itertools.chain(row.items())), flush=True)


if __name__ == "__main__":
    main()
