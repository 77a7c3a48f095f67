"""Our path against the published NU-Net's own inference path: speed, pixels, preview latency, memory.

    python benchmarks/enhance.py                  # everything, up to ten minutes on two cores
    python benchmarks/enhance.py --seconds 3 --sizes 256 --no-memory

The PyPI package ``nunet`` cannot be run (looked at in November 2026: the wheel of 0.1.2 holds
no code, and pip refuses the archive of 0.1.1, which says it were 0.0.0). Therefore its path is
built again from its description: float32, NCHW, no grad, one plane at a time, clipped and divided
by 255. Sizes here are multiples of 4, where its resize of the output does nothing. A
strength-conditioned network is set to one strength in the published layers, instance norms
included, so that both sides have the same weights and sizes. Of a network with frozen norms the
pixels are compared with its own definition in float32, which the published layers cannot give.

All sides take turns in one process (A B C A B C …) and medians are compared: from a plane in memory
to its image, statistics included. There is one such process for each setting of the allocator, because it
counts for more than any rewriting: as the system has it, and with freed memory kept (``core.memory``), which is
what our terminal and dock do. Both sides profit from it; the tables show both.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ModelNotFoundError
from napari_cellenhance.core.memory import keep_memory
from napari_cellenhance.core.models.nunet import NUNet, StrengthHead
from napari_cellenhance.core.recipes.nunet_open import open_nunet
from napari_cellenhance.core.recipes.protocol import FilterInfo, StrengthInfo
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows import catalog, enhance
from napari_cellenhance.workflows.catalog import FilterSpec, OpenedFilter
from napari_cellenhance.workflows.preview import PreviewRequest, PreviewResult, PreviewSession
from napari_cellenhance.workflows.requests import EnhanceRequest

ALLOCATORS = ("default", "kept")
PUBLISHED = "published"
STRENGTH = 8.0
PREVIEWS = ((512, 1536), (1024, 1536))
"""Side of the view, and of the plane around it: large enough to be answered approximately at first."""

_N_PLANES, _MIN_ROUNDS, _N_MOVES, _PAUSE_S = 6, 3, 40, 0.02


def main() -> None:
    """Run all parts in processes of their own, print the tables, keep the JSON."""
    options = _options()
    if options.part:
        if options.allocator == "kept" and not keep_memory():
            raise SystemExit("this system's allocator cannot keep memory")
        parts: dict[str, Callable[[argparse.Namespace], Any]] = {
            "speed": _speed, "preview": _preview, "memory": _memory,
        }  # fmt: skip
        print(json.dumps(parts[options.part](options)))
        return
    start = time.perf_counter()
    report: dict[str, Any] = {"machine": _machine(), "model": _describe_model(options.model)}
    report["speed"] = {allocator: _apart(options, "speed", allocator) for allocator in ALLOCATORS}
    report["preview_ms"] = {allocator: _apart(options, "preview", allocator) for allocator in ALLOCATORS}
    report["memory"] = _apart(options, "memory", "kept") if options.memory else []
    report["seconds"] = round(time.perf_counter() - start)
    text = "\n".join(_tables(report))
    print(text)
    Path(options.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    Path(options.json).with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    print(f"\nKept in {options.json}, and the tables beside it")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[256, 400, 512, 1024], help="sides of the planes, in px"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="per size and allocator; at least three rounds")
    parser.add_argument(
        "--model", default="nunet-guided", help="model id; seeded random weights where there is no such model"
    )
    parser.add_argument(
        "--memory-size", type=int, default=4096, help="side of the plane whose memory is measured, in px"
    )
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave that part out")
    parser.add_argument("--json", default="benchmarks/enhance.json")
    parser.add_argument("--part", choices=("speed", "preview", "memory"), help=argparse.SUPPRESS)
    parser.add_argument("--allocator", choices=ALLOCATORS, default="default", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if any(size % 4 or size < 16 for size in options.sizes):
        parser.error("expected sizes that are multiples of 4, at least 16")
    return options


def _apart(options: argparse.Namespace, part: str, allocator: str) -> Any:
    """One part in a fresh process: an allocator once set stays so."""
    command = [sys.executable, __file__, "--part", part, "--allocator", allocator, "--model", options.model]
    command += ["--sizes", *map(str, options.sizes), "--seconds", str(options.seconds)]
    done = subprocess.run(
        [*command, "--memory-size", str(options.memory_size)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{part} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


# --- speed and pixels ----------------------------------------------------------------------


def _speed(options: argparse.Namespace) -> list[dict[str, Any]]:
    module = _module(options.model)
    network = _as_published(module)
    ours = {name: _opened(options.model, *way).enhancer for name, way in _ways(module).items()}
    rows = []
    for size in options.sizes:
        volume = _volume(_N_PLANES, size)
        defined = [_defined(module, raw) for raw in volume] if module.norm == "frozen" else []
        seconds: dict[str, list[float]] = {name: [] for name in (PUBLISHED, *ours)}
        largest: dict[str, list[float]] = {name: [] for name in ours}
        start, n_rounds = time.perf_counter(), -1
        while n_rounds < _MIN_ROUNDS or time.perf_counter() - start < options.seconds:
            index = (n_rounds + 1) % _N_PLANES
            raw = volume[index]
            expected = _timed(seconds[PUBLISHED], partial(_published, network, raw))
            if defined:
                expected = defined[index]
            for name, enhancer in ours.items():
                found = _timed(seconds[name], partial(_ours, enhancer, raw))
                largest[name].append(float(np.abs(found - expected).max() * 255))
            n_rounds += 1
        # The first round warms up: it is left out.
        medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
        for name, median in medians.items():
            rows.append(
                {
                    "size": size,
                    "side": name,
                    "ms": 1000 * median,
                    "fastest_ms": 1000 * min(seconds[name][1:]),
                    "ratio": medians[PUBLISHED] / median,
                    "largest_difference_of_255": max(largest.get(name, [0.0])),
                    "typical_largest_difference_of_255": statistics.median(largest.get(name, [0.0])),
                    "n_rounds": n_rounds,
                }
            )
    return rows


def _ways(module: NUNet) -> dict[str, tuple[str, str]]:
    """Name → (device, precision) of each of our ways that this computer can go."""
    ways = {"torch float32": ("cpu", "float32"), "torch bfloat16": ("cpu", "bfloat16")}
    if importlib.util.find_spec("openvino") is not None:
        ways["OpenVINO float32"] = ("openvino", "float32")
        if module.norm == "frozen":
            ways["OpenVINO bfloat16"] = ("openvino", "bfloat16")
    return ways


def _timed(seconds: list[float], work: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    # The threads of the other side go to sleep first.
    time.sleep(_PAUSE_S)
    start = time.perf_counter()
    result = work()
    seconds.append(time.perf_counter() - start)
    return result


def _published(network: NUNet, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.no_grad():
        tensor = torch.from_numpy(raw.astype(np.float32))[None, None]
        image: NDArray[np.float32] = torch.clip(network(tensor), 0, 255)[0, 0].numpy() / np.float32(255.0)
    return image


def _defined(module: NUNet, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The network as it is written down, in float32."""
    with torch.inference_mode():
        tensor = torch.from_numpy(_stretched(raw))[None, None] * 255.0
        image: NDArray[np.float32] = module(tensor, torch.tensor([STRENGTH]))[0, 0].clamp(0, 255).numpy() / 255.0
    return image


def _stretched(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    low, high = float(raw.min()), float(raw.max())
    return (raw.astype(np.float32) - np.float32(low)) / np.float32(high - low)


def _ours(enhancer: Any, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    # Minimum and maximum: an affine change of the grey values, to which instance norms are invariant, so that
    # the published side may take the raw pixels.
    both = enhancer.calibrate_and_encode(_stretched(raw), lambda: None)
    image: NDArray[np.float32] = np.clip(enhancer.decode(both[1], STRENGTH), 0.0, 1.0)
    return image


# --- memory --------------------------------------------------------------------------------


def _memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The whole workflow on one large plane, in bfloat16, at the default memory limit."""
    size = options.memory_size
    tile = _volume(1, 512)[0]
    repeats = -(-size // 512)
    plane = np.tile(tile, (repeats, repeats))[:size, :size].copy()
    opened = _opened(options.model, "cpu", "bfloat16")
    enhance.apply(EnhanceRequest(image=tile[:64, :64], axes="YX", filter_id="nunet", strength=STRENGTH), opened)
    base = _peak_bytes()
    start = time.perf_counter()
    enhance.apply(EnhanceRequest(image=plane, axes="YX", filter_id="nunet", strength=STRENGTH), opened)
    seconds = time.perf_counter() - start
    peak = _peak_bytes()
    return [
        {
            "size": size,
            "seconds": seconds,
            "peak_mb": peak / 1e6,
            "base_mb": base / 1e6,
            "bytes_per_px": (peak - base) / size**2,
        }
    ]


def _peak_bytes() -> int:
    # Linux counts kilobytes, macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# --- same weights on both sides ----------------------------------------------------------


def _module(model: str) -> NUNet:
    spec = _card(model)
    if spec is None:
        torch.manual_seed(0)
        return NUNet().eval()
    from napari_cellenhance.zoo.weights import load_model

    assert spec.card is not None
    module = load_model(spec.card)
    assert isinstance(module, NUNet)
    return module


def _card(model: str) -> FilterSpec | None:
    try:
        return catalog.describe(model)
    except ModelNotFoundError:
        return None


def _as_published(module: NUNet) -> NUNet:
    """The published layers with the weights that a conditioned network has at one strength."""
    if not isinstance(module.head, StrengthHead):
        return module
    plain = NUNet(output=module.output).eval()
    state = {name: value for name, value in module.state_dict().items() if name in plain.state_dict()}
    with torch.no_grad():
        gamma, beta, weight, bias = module.head.at(STRENGTH)
        if module.early is not None:
            state["up1.norm.weight"], state["up1.norm.bias"] = module.early.at(STRENGTH)
    state |= {"up2.norm.weight": gamma, "up2.norm.bias": beta, "head.weight": weight, "head.bias": bias}
    plain.load_state_dict(state)
    return plain


def _opened(model: str, device: str, precision: str) -> OpenedFilter:
    choice = DeviceChoice(device=device, precision=precision, note="")  # type: ignore[arg-type]
    strength = StrengthInfo(label="Strength", help="", default=STRENGTH, maximum=10.0)
    info = FilterInfo(id="nunet", title="NU-Net", group="NU-Net", summary="", strength=strength)
    spec = FilterSpec(info=info, normalizer_settings={"lo": 0.0, "hi": 100.0, "clip": False})
    enhancer = open_nunet(_module(model), info=info, choice=choice)
    return OpenedFilter(spec=spec, enhancer=enhancer, choice=choice, memory_limit_mb=2000)


def _volume(n_planes: int, size: int) -> NDArray[np.uint8]:
    """Seeded blobs of nuclear size on an uneven, noisy ground."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    planes = []
    for _ in range(n_planes):
        plane = 20 + 20 * x / size + rng.normal(0, 6, (size, size))
        for _ in range(size * size // 1600):
            cy, cx, r = rng.uniform(0, size), rng.uniform(0, size), rng.uniform(5, 12)
            near = np.s_[max(0, int(cy - 4 * r)) : int(cy + 4 * r), max(0, int(cx - 4 * r)) : int(cx + 4 * r)]
            distance = ((y[near] - cy) ** 2 + (x[near] - cx) ** 2) / r**2
            plane[near] += rng.uniform(30, 180) / (1 + np.exp(6 * np.minimum(distance - 1, 10)))
        planes.append(np.clip(plane, 0, 255).astype(np.uint8))
    return np.stack(planes)


# --- preview -----------------------------------------------------------------------------


def _preview(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for name, way in _ways(_module(options.model)).items():
        for side, plane_px in PREVIEWS:
            plane = _volume(1, plane_px)[0]
            session, opened = PreviewSession(), _opened(options.model, *way)
            with _catalog_answers(opened):
                _update(session, plane, 64, side)  # a first call of these shapes
                session.clear()
                approximate = _update(session, plane, 100, side)
                assert approximate.is_approximate
                start = time.perf_counter()
                session.calibrate(_request(plane, 100, side, STRENGTH))
                calibration = 1000 * (time.perf_counter() - start)
                exact = _update(session, plane, 100, side)
                assert not exact.is_approximate
                pans = [1000 * _update(session, plane, 100 + 20 * i, side).latency_s for i in range(1, 6)]
                moves = [
                    1000 * _update(session, plane, 200, side, 2.5 + 7.5 * i / _N_MOVES).latency_s
                    for i in range(_N_MOVES + 1)
                ]
            rows.append(
                {
                    "side": name,
                    "view": side,
                    "plane": plane_px,
                    "approximate_first": 1000 * approximate.latency_s,
                    "calibration": calibration,
                    "exact_first": 1000 * exact.latency_s,
                    "pan_median": statistics.median(pans),
                    "slider_median": statistics.median(moves[1:]),
                    "slider_p95": float(np.percentile(moves[1:], 95)),
                }
            )
    return rows


def _update(
    session: PreviewSession, plane: NDArray[np.uint8], offset: int, side: int, strength: float = STRENGTH
) -> PreviewResult:
    return session.update(_request(plane, offset, side, strength))


def _request(plane: NDArray[np.uint8], offset: int, side: int, strength: float) -> PreviewRequest:
    region = Region(offset, offset + side, offset, offset + side)
    request = EnhanceRequest(image=plane, axes="YX", filter_id="nunet", strength=strength, region=region)
    return PreviewRequest(enhance=request, source_key="benchmark")


class _catalog_answers(contextlib.AbstractContextManager[None]):  # noqa: N801 - reads as a statement
    """Let the catalogue open the benchmark's filter, which need not be in the manifest."""

    def __init__(self, opened: OpenedFilter) -> None:
        self._opened, self._original = opened, catalog.open_enhancer

    def __enter__(self) -> None:
        catalog.open_enhancer = lambda *args, **kwargs: self._opened

    def __exit__(self, *error: object) -> None:
        catalog.open_enhancer = self._original


# --- report ------------------------------------------------------------------------------


def _tables(report: dict[str, Any]) -> list[str]:
    machine = report["machine"]
    lines = [f"{report['model']['id']}, {machine['processor']}, {machine['threads']} threads, torch {machine['torch']}"]
    lines += ["", 'Allocator as the system has it ("default") and with freed memory kept ("kept"):']
    speed = report["speed"]
    published = {
        (allocator, row["size"]): row["ms"] for allocator in ALLOCATORS for row in speed[allocator]
        if row["side"] == PUBLISHED
    }  # fmt: skip
    lines += [
        "",
        "| plane | path | default, ms | ratio | kept, ms | ratio | kept to published default | largest difference |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row, kept in zip(speed["default"], speed["kept"], strict=True):
        across = published["default", row["size"]] / kept["ms"]
        largest = max(row["largest_difference_of_255"], kept["largest_difference_of_255"])
        lines.append(
            f"| {row['size']}² | {row['side']} | {row['ms']:.0f} | ×{row['ratio']:.1f} | {kept['ms']:.0f} "
            f"| ×{kept['ratio']:.1f} | ×{across:.1f} "
            f"| {largest:.2f}/255, typically {kept['typical_largest_difference_of_255']:.2f} |"
        )
    lines += [
        "",
        "Preview, memory kept, ms:",
        "",
        "| path | view | approximate | plane measured | first exact view | new view | slider move, median | p95 |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in report["preview_ms"]["kept"]:
        lines.append(
            f"| {row['side']} | {row['view']}² of {row['plane']}² | {row['approximate_first']:.0f} "
            f"| {row['calibration']:.0f} | {row['exact_first']:.0f} | {row['pan_median']:.0f} "
            f"| {row['slider_median']:.1f} | {row['slider_p95']:.1f} |"
        )
    for row in report["memory"]:
        lines.append("")
        lines.append(
            f"{row['size']}² in bfloat16: {row['seconds']:.0f} s, peak {row['peak_mb']:.0f} MB, "
            f"{row['bytes_per_px']:.0f} bytes per pixel above the {row['base_mb']:.0f} MB of the loaded program."
        )
    return lines


def _describe_model(model: str) -> dict[str, str]:
    spec = _card(model)
    if spec is None:
        return {"id": "seeded random weights"}
    return {"id": spec.info.id, "version": spec.version, "sha256": spec.sha256}


def _machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
