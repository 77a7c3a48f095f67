"""NU-Net on a CUDA device: the published path against ours, a plane of each size, and a stack.

Usage::

    python benchmarks/graphics_card.py
    python benchmarks/graphics_card.py --model nunet --sizes 400 1024
    python benchmarks/graphics_card.py --layers 1024     # which rewrite of a layer pays on this card

Published: as in ``benchmarks/enhance.py``, float32 as PyTorch computes it by default on such a device (TF32), planes
as they come, one at a time, weights kept on the device. All sides take turns in one process and medians are compared:
from a plane in memory to its image in memory, both transfers and the statistics included. Memory is the peak that
PyTorch allocated on the device while one plane was filtered, weights included. The stack is filtered by the whole
workflow, normalisation and record included; the published side by its loop.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from enhance import PUBLISHED, STRENGTH, _as_published, _describe_model, _machine, _module, _opened, _ours, _volume
from numpy.typing import NDArray

from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.workflows import enhance
from napari_cellenhance.workflows.requests import EnhanceRequest

WAYS = {"ours, float32": "float32", "ours, bfloat16": "bfloat16"}
STACK = (130, 400)
"""Planes and their side: the stack that the paper times, at 23 ms a plane and 1.3 GB."""

_N_PLANES, _MIN_ROUNDS, _N_STACKS = 4, 8, 3


def main() -> None:
    """Measure, print the tables, keep the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 400, 512, 1024, 2048])
    parser.add_argument("--seconds", type=float, default=3.0, help="per size; at least eight rounds")
    parser.add_argument("--model", default="nunet-guided")
    parser.add_argument("--json", default="benchmarks/graphics_card.json")
    parser.add_argument("--layers", type=int, help="side of a plane: measure single layers instead")
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)  # cpu: to try this program itself
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device that PyTorch can use; benchmarks/enhance.py measures the CPU")
    if options.layers:
        print("\n".join(_layers(options.layers, options.device)))
        return
    module = _module(options.model)
    report: dict[str, Any] = {
        "machine": _machine() | {"card": torch.cuda.get_device_name(), "cuda": torch.version.cuda},
        "model": _describe_model(options.model),
        "planes": [row for size in options.sizes for row in _planes(module, options.model, size, options.seconds)],
        "stack": _stacks(module, options.model),
    }
    text = "\n".join(_tables(report))
    print(text)
    Path(options.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    Path(options.json).with_suffix(".md").write_text(text + "\n", encoding="utf-8")


def _published(network: NUNet, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    torch.backends.cudnn.allow_tf32 = True
    with torch.no_grad():
        tensor = torch.from_numpy(raw.astype(np.float32))[None, None].cuda()
        image: NDArray[np.float32] = (torch.clip(network(tensor), 0, 255)[0, 0] / 255.0).cpu().numpy()
    return image


def _exactly(enhancer: Any, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    torch.backends.cudnn.allow_tf32 = False
    return _ours(enhancer, raw)


def _planes(module: NUNet, model: str, size: int, seconds: float) -> list[dict[str, Any]]:
    volume = _volume(_N_PLANES, size)
    sides: dict[str, Any] = {PUBLISHED: partial(_published, _as_published(module).cuda())}
    for name, precision in WAYS.items():
        sides[name] = partial(_exactly, _opened(model, "cuda", precision).enhancer)
    expected = _ours(_opened(model, "cpu", "float32").enhancer, volume[0])
    peaks, gaps = {}, {}
    for name, side in sides.items():
        side(volume[0])
        torch.cuda.reset_peak_memory_stats()
        image = side(volume[0])
        peaks[name] = torch.cuda.max_memory_allocated()
        gaps[name] = float(np.abs(image - expected).max() * 255)
    times: dict[str, list[float]] = {name: [] for name in sides}
    start, n_rounds = time.perf_counter(), 0
    while n_rounds < _MIN_ROUNDS or time.perf_counter() - start < seconds:
        for name, side in sides.items():
            torch.cuda.synchronize()
            begun = time.perf_counter()
            side(volume[n_rounds % _N_PLANES])
            times[name].append(time.perf_counter() - begun)
        n_rounds += 1
    # The first rounds warm up: they are left out.
    medians = {name: statistics.median(values[2:]) for name, values in times.items()}
    return [
        {
            "size": size, "side": name, "ms": 1000 * medians[name], "ratio": medians[PUBLISHED] / medians[name],
            "n_rounds": n_rounds - 2, "peak_mb": peaks[name] / 1e6, "difference_to_cpu_of_255": gaps[name],
        }
        for name in sides
    ]  # fmt: skip


def _stacks(module: NUNet, model: str) -> list[dict[str, Any]]:
    n, size = STACK
    stack = np.concatenate([_volume(_N_PLANES, size)] * (n // _N_PLANES + 1))[:n]
    network = _as_published(module).cuda()

    def published() -> None:
        for plane in stack:
            _published(network, plane)

    def ours(precision: str) -> None:
        opened = _opened(model, "cuda", precision)
        torch.backends.cudnn.allow_tf32 = False
        enhance.apply(EnhanceRequest(image=stack, axes="ZYX", filter_id="nunet", strength=STRENGTH), opened)

    sides = {PUBLISHED: published} | {name: partial(ours, precision) for name, precision in WAYS.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    peaks = dict.fromkeys(sides, 0)
    for _ in range(_N_STACKS + 1):
        for name, side in sides.items():
            torch.cuda.reset_peak_memory_stats()
            begun = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - begun)
            peaks[name] = torch.cuda.max_memory_allocated()
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    return [
        {
            "planes": n, "size": size, "side": name, "seconds": medians[name], "ms_per_plane": 1000 * medians[name] / n,
            "ratio": medians[PUBLISHED] / medians[name], "peak_mb": peaks[name] / 1e6,
        }
        for name in sides
    ]  # fmt: skip


# --- single layers ------------------------------------------------------------------------------


def _layers(size: int, device: str) -> list[str]:
    """Each layer that is rewritten here, as published and as rewritten, in both layouts; medians in ms."""
    lines = ["| layer | way | layout | float32 | bfloat16 |", "|---|---|---|---:|---:|"]
    for layer, ways in _WAYS_OF_A_LAYER.items():
        for way, work in ways.items():
            for layout, memory_format in (("NCHW", torch.contiguous_format), ("NHWC", torch.channels_last)):
                cells = [
                    _layer_ms(work, size, dtype, memory_format, device) for dtype in (torch.float32, torch.bfloat16)
                ]
                lines.append(f"| {layer} | {way} | {layout} | {cells[0]:.3f} | {cells[1]:.3f} |")
    return lines


def _layer_ms(work: Any, size: int, dtype: torch.dtype, memory_format: torch.memory_format, device: str) -> float:
    def tensor(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device).to(dtype).contiguous(memory_format=memory_format)

    times = []
    with torch.inference_mode():
        run = work(tensor, size)
        for _ in range(14):
            if device == "cuda":
                torch.cuda.synchronize()
            begun = time.perf_counter()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times[4:])


def _first_direct(tensor: Any, n: int) -> Any:
    x, w = tensor(1, 1, n + 8, n + 8), tensor(32, 1, 9, 9)
    return lambda: F.conv2d(x, w)


def _last_direct(tensor: Any, n: int) -> Any:
    x, w = tensor(1, 32, n + 8, n + 8), tensor(1, 32, 9, 9)
    return lambda: F.conv2d(x, w)


def _last_in_blocks(tensor: Any, n: int) -> Any:
    x, w = tensor(1, 32, n + 8, n + 8), tensor(16, 32, 12, 12)
    return lambda: F.pixel_shuffle(F.conv2d(x, w, stride=4), 4)


def _up_nearest(tensor: Any, n: int) -> Any:
    x, w = tensor(1, 128, n // 4, n // 4), tensor(64, 128, 3, 3)
    return lambda: F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), w, padding=1)


def _up_transposed(tensor: Any, n: int) -> Any:
    x, w = tensor(1, 128, n // 4, n // 4), tensor(128, 64, 4, 4)
    return lambda: F.conv_transpose2d(x, w, stride=2, padding=1)


def _pad(tensor: Any, n: int) -> Any:
    x = tensor(1, 32, n, n)
    return lambda: F.pad(x, (4,) * 4, mode="reflect")


def _norm_published(tensor: Any, n: int) -> Any:
    x = tensor(1, 32, n, n)
    return lambda: F.instance_norm(x)


def _norm_measured(tensor: Any, n: int) -> Any:
    x = tensor(1, 32, n, n)

    def run() -> torch.Tensor:
        var, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
        return F.batch_norm(x, mean, var, training=False, eps=1e-5)

    return run


_WAYS_OF_A_LAYER: dict[str, dict[str, Any]] = {
    "input, 9×9": {"direct": _first_direct},
    "output, 9×9": {"direct": _last_direct, "stride 4, 12×12": _last_in_blocks},
    "up-sampling": {"nearest and 3×3": _up_nearest, "transposed 4×4": _up_transposed},
    "reflection, 4 px of 32 maps": {"torch": _pad},
    "instance norm of 32 maps": {"torch": _norm_published, "measured, then applied": _norm_measured},
}
"""Layer → way → maker of a call, given a maker of tensors and the side of the plane."""


def _tables(report: dict[str, Any]) -> list[str]:
    machine = report["machine"]
    lines = [f"{report['model']['id']}, {machine['card']}, torch {machine['torch']}, CUDA {machine['cuda']}", ""]
    lines += [
        "| plane | path | ms | ratio | peak, MB | difference to the CPU in float32 |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in report["planes"]:
        lines.append(
            f"| {row['size']}² | {row['side']} | {row['ms']:.2f} | ×{row['ratio']:.2f} | {row['peak_mb']:.0f} "
            f"| {row['difference_to_cpu_of_255']:.3f}/255 |"
        )
    lines += ["", "| stack | path | s | ms a plane | ratio | peak, MB |", "|---|---|---:|---:|---:|---:|"]
    for row in report["stack"]:
        lines.append(
            f"| {row['planes']} × {row['size']}² | {row['side']} | {row['seconds']:.2f} | {row['ms_per_plane']:.2f} "
            f"| ×{row['ratio']:.2f} | {row['peak_mb']:.0f} |"
        )
    return lines


if __name__ == "__main__":
    main()
