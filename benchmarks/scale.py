"""Images larger than memory: megapixels per second against size, workers, what tiles and writing cost, peak memory.

    python benchmarks/scale.py                        # quiet computer, about an hour on two cores
    python benchmarks/scale.py --quick                # small images, some minutes: does it run?
    python benchmarks/scale.py --parts memory --sides 8192 --filter gaussian

Every number comes from a process of its own. Sources are uncompressed 16-bit TIFFs, results OME-Zarr on the same disk.

size     ``large_images.run`` from file to file, warm; the goal: a pixel of 16k² costs at most 1.2 times one of 2k²
writing  the same plane in memory: the untiled network as it was published, one pass of ours without tiles, ours in
         tiles, and from file to file
workers  a volume by 1 and 2 processes of one thread each (a local dask cluster), without their start
memory   peak resident set (VmHWM) of the whole program, and of each worker, at ``--limit``
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

_PARTS = ("size", "writing", "workers", "memory")
_BAND = 512


def main() -> None:
    options = _options()
    if options.one:
        print(json.dumps(_ONE[options.one["kind"]](options.one)))
        return
    report: dict[str, Any] = {"filter": options.filter, "precision": options.precision, "limit_mb": options.limit}
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="scale-") as scratch:
        for part in options.parts:
            report[part] = _RUN[part](options, Path(scratch))
            print("\n".join(_table(part, report[part])), flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS))
    parser.add_argument("--filter", default="nunet")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--limit", type=int, default=2000, help="memory limit, in MB")
    parser.add_argument("--sides", type=int, nargs="+", help="of planes, in pixels")
    parser.add_argument("--volume", type=int, nargs=2, metavar=("PLANES", "SIDE"))
    parser.add_argument("--quick", action="store_true", help="small images")
    parser.add_argument("--scratch", type=Path, help="folder for images and results; up to 8 GB")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


# --- in the first process: what is measured ---------------------------------------------------


def _apart(options: argparse.Namespace, kind: str, **settings: Any) -> dict[str, Any]:
    asked = {
        "kind": kind, "filter": options.filter, "precision": options.precision, "limit_mb": options.limit, **settings
    }  # fmt: skip
    ended = subprocess.run(
        [sys.executable, __file__, "--one", json.dumps(asked)], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def _sides(options: argparse.Namespace, quick: list[int], full: list[int]) -> list[int]:
    return options.sides or (quick if options.quick else full)


def _size(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    rows = []
    for side in _sides(options, [256, 512], [1024, 2048, 4096, 8192, 16384]):
        source = _plane(scratch, (side, side))
        rows.append({"side": side, **_apart(options, "file", source=str(source), out=str(scratch / "out.zarr"))})
        source.unlink()
    return rows


def _writing(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    rows = []
    for side in _sides(options, [256], [1024, 2048]):
        source = str(_plane(scratch, (side, side)))
        for kind in ("published", "untiled", "tiled"):
            if kind == "published" and options.filter != "nunet":
                continue
            rows.append({"side": side, "way": kind, **_apart(options, kind, source=source)})
        rows.append(
            {"side": side, "way": "file", **_apart(options, "file", source=source, out=str(scratch / "w.zarr"))}
        )
    return rows


def _workers(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    n_planes, side = options.volume or ((4, 256) if options.quick else (16, 2048))
    source = str(_plane(scratch, (n_planes, side, side)))
    return [
        {"workers": n, **_apart(options, "workers", source=source, out=str(scratch / f"{n}.zarr"), workers=n)}
        for n in (1, 2)
    ]


def _memory(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    shapes: list[tuple[int, ...]] = [(side, side) for side in _sides(options, [512], [2048, 8192, 16384])]
    if not options.sides or options.volume:
        n_planes, side = options.volume or ((3, 256) if options.quick else (200, 2048))
        shapes.append((n_planes, side, side))
    rows = []
    for shape in shapes:
        source = _plane(scratch, shape)
        found = _apart(options, "file", source=str(source), out=str(scratch / "m.zarr"), cold=True)
        rows.append({"shape": list(shape), **found})
        source.unlink()
    return rows


_RUN: dict[str, Callable[[argparse.Namespace, Path], list[dict[str, Any]]]] = {
    "size": _size, "writing": _writing, "workers": _workers, "memory": _memory
}  # fmt: skip


def _plane(scratch: Path, shape: tuple[int, ...]) -> Path:
    """Blobs with noise, 16 bit, written band by band."""
    path = scratch / f"{'x'.join(map(str, shape))}.tif"
    stored = tifffile.memmap(path, shape=shape, dtype=np.uint16, bigtiff=True, photometric="minisblack")
    rng = np.random.default_rng(0)
    x = np.arange(shape[-1])
    for plane in stored.reshape(-1, *shape[-2:]):
        for y in range(0, shape[-2], _BAND):
            rows = np.arange(y, min(shape[-2], y + _BAND))[:, None]
            bumps = np.clip(np.sin(rows / 9.0) * np.cos(x / 13.0), 0, 1)
            plane[y : y + _BAND] = rng.poisson(200 + 1500 * bumps)
    stored.flush()
    return path


# --- in a process of its own: one measurement --------------------------------------------------


def _settings(asked: dict[str, Any], **more: Any) -> Any:
    from napari_cellenhance.workflows.requests import EnhanceRequest

    given = {"image": None, "axes": "", **more}
    return EnhanceRequest(
        filter_id=asked["filter"], precision=asked["precision"], memory_limit_mb=asked["limit_mb"], **given
    )


def _run_large(asked: dict[str, Any], source: str, out: str, **more: Any) -> float:
    from napari_cellenhance.workflows import large_images

    axes = "ZYX" if tifffile.TiffFile(source).series[0].ndim == 3 else "YX"
    request = large_images.LargeRequest(
        source=source, target=out, settings=_settings(asked, axes=axes), overwrite=True, **more
    )
    started = time.perf_counter()
    result = large_images.run(request)
    assert result.is_complete
    return time.perf_counter() - started


def _file(asked: dict[str, Any]) -> dict[str, Any]:
    from napari_cellenhance.core.memory import keep_memory

    keep_memory()  # as the terminal does
    source, out = asked["source"], asked["out"]
    if not asked.get("cold"):
        with tempfile.TemporaryDirectory(dir=Path(out).parent) as folder:
            _run_large(asked, str(_plane(Path(folder), (256, 256))), f"{folder}/warm.zarr")
    return _rated(source, _run_large(asked, source, out))


def _with_workers(asked: dict[str, Any]) -> dict[str, Any]:
    import distributed

    from napari_cellenhance.workflows.cluster import Cluster

    with (
        distributed.LocalCluster(
            n_workers=asked["workers"],
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
        ) as local,
        distributed.Client(local, set_as_default=False) as client,
        tempfile.TemporaryDirectory(dir=Path(asked["out"]).parent) as folder,
    ):
        crew = Cluster(scheduler=client.scheduler.address)
        warm = _plane(Path(folder), (8, 64, 64))
        _run_large(asked, str(warm), f"{folder}/warm.zarr", cluster=crew)
        seconds = _run_large(asked, asked["source"], asked["out"], cluster=crew)
        peaks = client.run(_peak_mb)
    return _rated(asked["source"], seconds) | {"worker_peak_mb": sorted(peaks.values())}


def _published_loop(asked: dict[str, Any]) -> dict[str, Any]:
    import enhance as published  # the benchmark beside this one

    raw = tifffile.imread(asked["source"])
    network = published._as_published(published._module(asked["filter"]))
    published._published(network, raw[:256, :256])
    started = time.perf_counter()
    published._published(network, raw)
    return _rated(asked["source"], time.perf_counter() - started)


def _untiled(asked: dict[str, Any]) -> dict[str, Any]:
    from napari_cellenhance.core.memory import keep_memory
    from napari_cellenhance.core.tiling import Region
    from napari_cellenhance.workflows import catalog

    keep_memory()
    raw = tifffile.imread(asked["source"])
    # A limit that the whole plane fits into.
    opened = catalog.open_enhancer(asked["filter"], "auto", asked["precision"], memory_limit_mb=1_000_000)
    low, high = raw.min(), raw.max()

    def once(pixels: Any) -> float:
        started = time.perf_counter()
        base = (pixels.astype(np.float32) - low) / (high - low)
        calibration = opened.enhancer.calibrate([base], lambda: None)
        features = opened.enhancer.encode(base, Region.whole(base), calibration)
        opened.enhancer.decode(features, opened.spec.info.strength.default)
        return time.perf_counter() - started

    once(raw[:256, :256])
    return _rated(asked["source"], once(raw))


def _tiled(asked: dict[str, Any]) -> dict[str, Any]:
    from napari_cellenhance.core.memory import keep_memory
    from napari_cellenhance.workflows import catalog, enhance

    keep_memory()
    raw = tifffile.imread(asked["source"])
    opened = catalog.open_enhancer(
        asked["filter"], "auto", asked["precision"], memory_limit_mb=asked["limit_mb"]
    )  # fmt: skip
    enhance.apply(_settings(asked, image=raw[:256, :256], axes="YX"), opened)
    started = time.perf_counter()
    enhance.apply(_settings(asked, image=raw, axes="YX"), opened)
    return _rated(asked["source"], time.perf_counter() - started)


_ONE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "file": _file, "published": _published_loop, "untiled": _untiled, "tiled": _tiled, "workers": _with_workers
}  # fmt: skip


def _rated(source: str, seconds: float) -> dict[str, Any]:
    n_px = int(np.prod(tifffile.TiffFile(source).series[0].shape))
    return {"seconds": round(seconds, 3), "mpx_per_s": round(n_px / seconds / 1e6, 3), "peak_mb": _peak_mb()}


def _peak_mb() -> int:
    """Largest resident set of this process, in MB."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / 1e6 if sys.platform == "darwin" else peak / 1e3)
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return round(int(line.split()[1]) * 1024 / 1e6)


# --- tables -----------------------------------------------------------------------------------


def _table(part: str, rows: list[dict[str, Any]]) -> list[str]:
    names = list(rows[0])
    lines = [f"\n{part}\n", "| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(row.get(name, "")) for name in names) + " |" for row in rows]
    if part == "size" and len(rows) > 1:
        first = next((row for row in rows if row["side"] == 2048), rows[0])
        ratio = first["mpx_per_s"] / rows[-1]["mpx_per_s"]
        lines.append(f"\ncost per pixel at {rows[-1]['side']}² against {first['side']}²: ×{ratio:.2f}")
    return lines


if __name__ == "__main__":
    main()
