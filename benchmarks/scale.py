"""Images larger than memory: megapixels per second against size, workers, what tiles and writing cost, peak memory.

    python benchmarks/scale.py                        # quiet computer, about an hour on two cores
    python benchmarks/scale.py --quick                # small images, some minutes: does it run?
    python benchmarks/scale.py --short                # 2k² to 16k², a volume of 20 planes, about 12 minutes
    python benchmarks/scale.py --parts memory --sides 8192 --filter gaussian
    python benchmarks/scale.py --parts memory --sides 2048 --filter "segment|0||aep-nuclei"    # classes

Every number comes from a process of its own. Sources are uncompressed 16-bit TIFFs, results OME-Zarr on the same disk.

size     ``large_images.run`` from file to file, warm; the goal: a pixel of 16k² costs at most 1.2 times one of 2k²
writing  the same plane in memory: the untiled network as it was published, one pass of ours without tiles, ours in
         tiles, and from file to file
workers  a volume by 1 and 2 processes of one thread each (a local dask cluster), without their start
memory   peak resident set (VmHWM) of the whole program, and of each worker, at ``--limit``
labels   objects of an enhanced plane by ``large_labels.run``, and their table
peer     the same U-Net (of N2V2) on the same plane in tiles of the same size: by our tiles, and by those of careamics,
         where it is installed (``--peer PYTHON`` names another interpreter that has it beside this program; it imports
         torchvision, of which nothing is measured here)
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

_PARTS = ("size", "writing", "workers", "memory", "labels", "peer")
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
            if options.json:  # after each part: an hour is too much to lose
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
    parser.add_argument("--short", action="store_true", help="fewer sizes, a smaller volume")
    parser.add_argument("--peer", default=sys.executable, metavar="PYTHON", help="interpreter that has careamics")
    parser.add_argument("--scratch", type=Path, help="folder for images and results; up to 8 GB")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


# --- in the first process: what is measured ---------------------------------------------------


def _apart(options: argparse.Namespace, kind: str, python: str = sys.executable, **settings: Any) -> dict[str, Any]:
    asked = {
        "kind": kind, "filter": options.filter, "precision": options.precision, "limit_mb": options.limit, **settings
    }  # fmt: skip
    ended = subprocess.run(
        [python, __file__, "--one", json.dumps(asked)], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def _sides(options: argparse.Namespace, quick: list[int], full: list[int], short: list[int]) -> list[int]:
    return options.sides or (quick if options.quick else short if options.short else full)


def _size(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    rows = []
    for side in _sides(options, [256, 512], [1024, 2048, 4096, 8192, 16384], [2048, 4096, 8192, 16384]):
        source = _plane(scratch, (side, side))
        rows.append({"side": side, **_apart(options, "file", source=str(source), out=str(scratch / "out.zarr"))})
        source.unlink()
    return rows


def _writing(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    rows = []
    for side in _sides(options, [256], [1024, 2048], [2048]):
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
    n_planes, side = (4, 256) if options.quick else (8 if options.short else 16, 2048)
    source = str(_plane(scratch, (n_planes, side, side)))
    return [
        {"workers": n, **_apart(options, "workers", source=source, out=str(scratch / f"{n}.zarr"), workers=n)}
        for n in (1, 2)
    ]


def _memory(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    shapes: list[tuple[int, ...]] = [(side, side) for side in _sides(options, [512], [2048, 8192, 16384], [])]
    if not options.sides or options.volume:
        usual = (3, 256) if options.quick else (20 if options.short else 200, 2048)
        n_planes, side = options.volume or usual
        shapes.append((n_planes, side, side))
    rows = []
    for shape in shapes:
        source = _plane(scratch, shape)
        found = _apart(options, "file", source=str(source), out=str(scratch / "m.zarr"), cold=True)
        rows.append({"shape": list(shape), **found})
        source.unlink()
    return rows


def _labels(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    rows = []
    for side in _sides(options, [512], [2048, 8192], [4096]):
        source = _plane(scratch, (side, side))
        for kind in ("label", "table"):
            found = _apart(options, kind, source=str(source), out=str(scratch))
            rows.append({"side": side, "what": kind, **found})
        source.unlink()
    return rows


def _peer(options: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    rows = []
    for side in _sides(options, [512], [2048, 4096], [2048]):
        source = str(_plane(scratch, (side, side)))
        for kind in ("ours", "careamics"):
            python = options.peer if kind == "careamics" else sys.executable
            rows.append({"side": side, "tiles": kind, **_apart(options, kind, python, source=source)})
    return rows


_RUN: dict[str, Callable[[argparse.Namespace, Path], list[dict[str, Any]]]] = {
    "size": _size, "writing": _writing, "workers": _workers, "memory": _memory, "labels": _labels, "peer": _peer
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
        source=source, target=out, settings=_settings(asked, axes=axes), overwrite=True,
        dtype="uint8" if asked["filter"].startswith("segment|") else None, **more,
    )  # fmt: skip
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


def _label(asked: dict[str, Any]) -> dict[str, Any]:
    """Objects of a plane that the Gaussian has smoothed already."""
    from napari_cellenhance.core.memory import keep_memory
    from napari_cellenhance.workflows import large_labels
    from napari_cellenhance.workflows.large_labels import LargeLabelsRequest

    keep_memory()
    folder = Path(asked["out"])
    _run_apart({**asked, "filter": "gaussian"}, asked["source"], str(folder / "smooth.zarr"))
    request = LargeLabelsRequest(
        source=folder / "smooth.zarr", target=folder / "labels.zarr", memory_limit_mb=asked["limit_mb"], overwrite=True
    )
    started = time.perf_counter()
    assert large_labels.run(request).is_complete
    return _rated(asked["source"], time.perf_counter() - started)


def _run_apart(asked: dict[str, Any], source: str, out: str) -> None:
    """Prepare something without counting its memory."""
    told = json.dumps({**asked, "kind": "file", "source": source, "out": out, "cold": True})
    subprocess.run([sys.executable, __file__, "--one", told], check=True, stdout=subprocess.DEVNULL)


def _object_table(asked: dict[str, Any]) -> dict[str, Any]:
    from napari_cellenhance.core.memory import keep_memory
    from napari_cellenhance.workflows import large_tables
    from napari_cellenhance.workflows.large_tables import LargeTableRequest

    keep_memory()
    folder = Path(asked["out"])
    request = LargeTableRequest(
        labels=folder / "labels.zarr", images={"raw": asked["source"]}, target=folder / "objects.csv", overwrite=True
    )
    started = time.perf_counter()
    n_objects = large_tables.run(request).n_objects
    return _rated(asked["source"], time.perf_counter() - started) | {"objects": n_objects}


_PEER_TILE_PX = 512
"""With the context that the network sees."""


def _standardised(asked: dict[str, Any]) -> tuple[Any, Any]:
    """The U-Net of the denoiser that comes along, and the plane in its range."""
    from napari_cellenhance.core.memory import keep_memory
    from napari_cellenhance.workflows import catalog

    keep_memory()
    module = catalog.open_enhancer("n2v2-fluorescence", "cpu", "float32").module
    plane = tifffile.imread(asked["source"]).astype(np.float32)
    return module, (plane - plane.mean()) / plane.std()


def _ours(asked: dict[str, Any]) -> dict[str, Any]:
    import torch

    from napari_cellenhance.core.recipes.tiled import TileGrid

    module, plane = _standardised(asked)
    net = module.nets[0].eval()

    def apply(tile: Any) -> Any:
        with torch.inference_mode():
            return net(torch.from_numpy(np.ascontiguousarray(tile))[None])[0, :1].numpy()

    grid = TileGrid(2, module.radius_px, module.grid_px)
    tile_px = _PEER_TILE_PX - 2 * grid.halo_px
    grid.run(plane[None, :512, :512], apply, 1, tile_px=tile_px)
    started = time.perf_counter()
    grid.run(plane[None], apply, 1, tile_px=tile_px)
    return _rated(asked["source"], time.perf_counter() - started)


def _careamics(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        from careamics.dataset.image_region_data import ImageRegionData
        from careamics.dataset.patching.tiled_patching import TiledPatching
        from careamics.lightning.prediction.stitch_prediction import stitch_single_sample
    except ImportError as error:
        return {"seconds": None, "mpx_per_s": None, "peak_mb": None, "note": f"careamics is not there: {error}"}
    import torch

    module, plane = _standardised(asked)
    net = module.nets[0].eval()
    overlap = 2 * (-(-module.radius_px // module.grid_px) * module.grid_px)

    def once(pixels: Any) -> Any:
        side, shape = min(_PEER_TILE_PX, *pixels.shape), (1, 1, *pixels.shape)
        tiles = []
        with torch.inference_mode():
            for spec in TiledPatching([shape], [side, side], [overlap] * 2).tile_specs:
                y, x = spec["coords"]
                tile = np.ascontiguousarray(pixels[None, None, y : y + side, x : x + side])
                found = net(torch.from_numpy(tile))[0, :1].numpy()
                tiles.append(ImageRegionData(found, "array", shape, "float32", "SCYX", "SCYX", shape, spec, {}))
        return stitch_single_sample(tiles)

    once(plane[:512, :512])
    started = time.perf_counter()
    once(plane)
    return _rated(asked["source"], time.perf_counter() - started)


_ONE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "file": _file, "published": _published_loop, "untiled": _untiled, "tiled": _tiled, "workers": _with_workers,
    "label": _label, "table": _object_table, "ours": _ours, "careamics": _careamics,
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
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"\n{part}\n", "| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(row.get(name, "")) for name in names) + " |" for row in rows]
    if part == "size" and len(rows) > 1:
        first = next((row for row in rows if row["side"] == 2048), rows[0])
        ratio = first["mpx_per_s"] / rows[-1]["mpx_per_s"]
        lines.append(f"\ncost per pixel at {rows[-1]['side']}² against {first['side']}²: ×{ratio:.2f}")
    return lines


if __name__ == "__main__":
    main()
