"""Our path against the published NU-Net's own inference path: speed, memory, pixels, preview latency.

    python benchmarks/enhance.py                    # 130 planes of 400 × 400, three rounds
    python benchmarks/enhance.py --planes 2 --rounds 1

The PyPI package ``nunet`` cannot be run (looked at in November 2026: the wheel of 0.1.2 holds
no code, and pip refuses the archive of 0.1.1, which says it were 0.0.0). Therefore its path is
built again from its description: float32, NCHW, no grad, one plane at a time, clipped and divided
by 255. Sizes here are multiples of 4, where its resize of the output does nothing. A
strength-conditioned network is frozen at one strength into the published layers, so that both
sides have the same weights.

Every timing is a fresh process; the sides take turns (A B C A B C …) and medians are compared.
Ours is the whole workflow (normalising, statistics, provenance), theirs is the network alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.errors import ModelNotFoundError
from napari_cellenhance.core.models.nunet import NUNet, StrengthHead
from napari_cellenhance.core.recipes.nunet_enhancer import NUNetEnhancer
from napari_cellenhance.core.recipes.protocol import FilterInfo, StrengthInfo
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows import catalog, enhance
from napari_cellenhance.workflows.catalog import FilterSpec, OpenedFilter
from napari_cellenhance.workflows.preview import PreviewRequest, PreviewSession
from napari_cellenhance.workflows.requests import EnhanceRequest

SIDES = ("published", "ours float32", "ours bfloat16")
STRENGTH = 8.0
PREVIEW_PLANE_PX = 1024


def main() -> None:
    """Run all sides, print the tables, keep the JSON."""
    options = _options()
    if options.side:
        print(json.dumps(_one_side(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        volume = Path(folder) / "volume.npy"
        np.save(volume, _volume(options.planes, options.size))
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for _ in range(options.rounds):
            for side in SIDES:
                runs[side].append(_in_fresh_process(side, volume, Path(folder), options))
        report = {
            "machine": _machine(),
            "model": _describe_model(options.model),
            "volume": [options.planes, options.size, options.size],
            "rounds": options.rounds,
            "sides": _compare(runs, Path(folder)),
            "preview_ms": [_preview(options, precision) for precision in ("float32", "bfloat16")],
        }
    _print(report)
    Path(options.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\nKept in {options.json}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planes", type=int, default=130)
    parser.add_argument("--size", type=int, default=400, help="side of a plane in pixels, a multiple of 4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="nunet", help="model id; seeded random weights where there is no such model")
    parser.add_argument("--json", default="benchmarks/enhance.json")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--volume", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.size % 4 or options.planes < 1 or options.rounds < 1:
        parser.error("expected a size that is a multiple of 4, and at least one plane and one round")
    return options


# --- one side, in its own process -------------------------------------------------------


def _one_side(options: argparse.Namespace) -> dict[str, Any]:
    volume: NDArray[np.uint8] = np.load(options.volume)
    # Loading and the first, slower call are not what is compared.
    if options.side == "published":
        network = _as_published(_module(options.model))
        _published(network, volume[:1])
        start = time.perf_counter()
        out = _published(network, volume)
    else:
        opened = _opened(options.model, options.side.removeprefix("ours "))
        enhance.apply(_request(volume[:1]), opened)
        start = time.perf_counter()
        out = enhance.apply(_request(volume), opened).image
    seconds = time.perf_counter() - start
    np.save(options.out, out)
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


def _published(network: NUNet, volume: NDArray[np.uint8]) -> NDArray[np.float32]:
    out = np.empty(volume.shape, np.float32)
    with torch.no_grad():
        for i, plane in enumerate(volume):
            tensor = torch.from_numpy(plane.astype(np.float32))[None, None]
            out[i] = torch.clip(network(tensor), 0, 255)[0, 0].numpy() / 255.0
    return out


def _request(volume: NDArray[np.uint8]) -> EnhanceRequest:
    return EnhanceRequest(image=volume, axes="ZYX", filter_id="nunet", strength=STRENGTH)


def _in_fresh_process(side: str, volume: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    out = folder / f"{side}.npy"
    command = [sys.executable, __file__, "--side", side, "--volume", str(volume), "--out", str(out)]
    done = subprocess.run([*command, "--model", options.model], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


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
    state = {name: value for name, value in module.state_dict().items() if not name.startswith("head.")}
    with torch.no_grad():
        gamma, beta, weight, bias = module.head.at(STRENGTH)
    state |= {"up2.norm.weight": gamma, "up2.norm.bias": beta, "head.weight": weight, "head.bias": bias}
    plain.load_state_dict(state)
    return plain


def _opened(model: str, precision: str) -> OpenedFilter:
    choice = DeviceChoice(device="cpu", precision=precision, note="")  # type: ignore[arg-type]
    strength = StrengthInfo(label="Strength", help="", default=STRENGTH, maximum=10.0)
    info = FilterInfo(id="nunet", title="NU-Net", group="NU-Net", summary="", strength=strength)
    # Minimum and maximum: an affine change of the grey values, to which the network is invariant, so that
    # the published side may take the raw pixels.
    spec = FilterSpec(info=info, normalizer_settings={"lo": 0.0, "hi": 100.0, "clip": False})
    return OpenedFilter(
        spec=spec, enhancer=NUNetEnhancer(_module(model), info, choice), choice=choice, memory_limit_mb=2000
    )


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


def _preview(options: argparse.Namespace, precision: str) -> dict[str, Any]:
    plane = _volume(1, PREVIEW_PLANE_PX)[0]
    result: dict[str, Any] = {"precision": precision, "plane_px": PREVIEW_PLANE_PX}
    for side in (256, 512):
        session = PreviewSession()
        opened = _opened(options.model, precision)
        with _catalog_answers(opened):
            first = _update(session, plane, 100, side, STRENGTH)
            pans = [_update(session, plane, 100 + 20 * i, side, STRENGTH) for i in range(1, 6)]
            moves = [_update(session, plane, 200, side, 0.1 + 0.4 * i) for i in range(24)]
        result[f"{side}_first"] = first
        result[f"{side}_pan"] = statistics.median(pans)
        result[f"{side}_slider"] = statistics.median(moves[1:])
    return result


def _update(session: PreviewSession, plane: NDArray[np.uint8], offset: int, side: int, strength: float) -> float:
    region = Region(offset, offset + side, offset, offset + side)
    request = EnhanceRequest(image=plane, axes="YX", filter_id="nunet", strength=strength, region=region)
    return 1000 * session.update(PreviewRequest(enhance=request, source_key="benchmark")).latency_s


class _catalog_answers:  # noqa: N801 - reads as a statement
    """Let the catalogue open the benchmark's filter, which need not be in the manifest."""

    def __init__(self, opened: OpenedFilter) -> None:
        self._opened, self._original = opened, catalog.open_enhancer

    def __enter__(self) -> None:
        catalog.open_enhancer = lambda *args, **kwargs: self._opened

    def __exit__(self, *error: object) -> None:
        catalog.open_enhancer = self._original


# --- report ------------------------------------------------------------------------------


def _compare(runs: dict[str, list[dict[str, Any]]], folder: Path) -> list[dict[str, Any]]:
    reference = np.load(folder / "published.npy")
    base = statistics.median(run["seconds"] for run in runs["published"])
    rows = []
    for side in SIDES:
        seconds = statistics.median(run["seconds"] for run in runs[side])
        difference = np.abs(np.load(folder / f"{side}.npy") - reference)
        rows.append(
            {
                "side": side,
                "seconds": seconds,
                "seconds_per_plane": seconds / len(reference),
                "ratio": base / seconds,
                "peak_mb": statistics.median(run["peak_bytes"] for run in runs[side]) / 1e6,
                "largest_difference_of_255": float(difference.max() * 255),
                "all_seconds": [run["seconds"] for run in runs[side]],
            }
        )
    return rows


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


def _print(report: dict[str, Any]) -> None:
    planes, size, _ = report["volume"]
    print(f"{planes} planes of {size} × {size}, {report['model']['id']}, {report['machine']['threads']} threads")
    print("\n| path | s per plane | ratio | peak memory | largest difference |")
    print("|---|---:|---:|---:|---:|")
    for row in report["sides"]:
        print(
            f"| {row['side']} | {row['seconds_per_plane']:.3f} | ×{row['ratio']:.1f} | {row['peak_mb']:.0f} MB "
            f"| {row['largest_difference_of_255']:.2f}/255 |"
        )
    print(f"\nPreview inside a plane of {PREVIEW_PLANE_PX} × {PREVIEW_PLANE_PX}, ms")
    print("| precision | view | first view (plane measured) | new view | slider move |")
    print("|---|---:|---:|---:|---:|")
    for row in report["preview_ms"]:
        for side in (256, 512):
            first, pan, move = (row[f"{side}_{kind}"] for kind in ("first", "pan", "slider"))
            print(f"| {row['precision']} | {side}² | {first:.0f} | {pan:.0f} | {move:.1f} |")


if __name__ == "__main__":
    main()
