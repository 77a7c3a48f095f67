"""Pairs of poor and clean images made from clean ones: n images → 3 n pairs, with a log of every drawn value."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError, TargetExistsError
from napari_cellenhance.core.microscope import (
    LEVELS,
    Exposure,
    Level,
    Optics,
    Preparation,
    clean_target,
    exposures,
    levels_from,
    measured_psf,
    point_spread,
)
from napari_cellenhance.io.json_ready import load_json
from napari_cellenhance.workflows.noisy_images import NoisyLayer, RawImage, read_files, read_layers
from napari_cellenhance.workflows.progress import IsCancelled, OnProgress, Progress, never_cancelled, no_progress

__all__ = [
    "SemiPair",
    "Synthesis",
    "SynthesizeRequest",
    "SynthesizeResult",
    "expose_images",
    "first_image",
    "group_of",
    "preview_png",
    "psf_of",
    "read_clean",
    "run",
]

LOG = "synthesis.json"
Data = str | os.PathLike[str] | tuple[NoisyLayer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesis:
    """How poor images are made of clean ones.

    Parameters
    ----------
    optics : Optics
        A pixel size of 0 is taken from the image.
    psf_file : path, optional
        Image of a point, in place of the optics; its pixels are those of the clean images.
    preparation : Preparation
        How a clean image becomes a target.
    levels : tuple of Level
        One pair of each image for every level.
    """

    optics: Optics = field(default_factory=Optics)
    psf_file: str | os.PathLike[str] | None = None
    preparation: Preparation = field(default_factory=Preparation)
    levels: tuple[Level, ...] = LEVELS

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        stored = asdict(self) | {"psf_file": None if self.psf_file is None else str(self.psf_file)}
        stored["levels"] = [{k: _finite(v) for k, v in asdict(level).items()} for level in self.levels]
        return stored

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Synthesis:
        """Inverse of :meth:`to_dict`."""
        return cls(
            optics=Optics(**stored["optics"]), psf_file=stored["psf_file"],
            preparation=Preparation(**stored["preparation"]), levels=levels_from(stored["levels"]),
        )  # fmt: skip


def _finite(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and np.isinf(value) else value


@dataclass(frozen=True, slots=True, eq=False)
class SemiPair:
    """A clean target in [0, 1] and one poor exposure of it, both float32 of shape ([Z,] Y, X)."""

    name: str
    group: str
    poor: NDArray[np.float32]
    clean: NDArray[np.float32]
    exposure: Exposure
    weight: float = 1.0


def read_clean(
    data: Data,
    synthesis: Synthesis,
    *,
    data_root: str | os.PathLike[str] | None = None,
    axes: str = "",
    channels: Literal["all", "grey"] | tuple[int, ...] = "all",
    n_dims: Literal[2, 3] = 2,
) -> tuple[list[RawImage], Synthesis]:
    """Clean images, and the synthesis with the size of their pixels where it left that open.

    Raises
    ------
    ImageError, AxesError
        Nothing there, not readable, no contrast.
    """
    if isinstance(data, tuple):
        return read_layers(data, n_dims), synthesis
    images = read_files(data, data_root=data_root, axes=axes, channels=channels, n_dims=n_dims)
    optics = synthesis.optics
    is_open = not optics.pixel_um or (n_dims == 3 and not optics.step_um)
    if synthesis.psf_file is None and optics.kind != "none" and is_open:
        sizes = _pixel_sizes(Path(data))
        optics = replace(
            optics, pixel_um=optics.pixel_um or sizes.get("X", sizes.get("Y", 0.0)),
            step_um=optics.step_um or (sizes.get("Z", 0.0) if n_dims == 3 else 0.0),
        )  # fmt: skip
        synthesis = replace(synthesis, optics=optics)
    return images, synthesis


def _pixel_sizes(data: Path) -> dict[str, float]:
    """Sizes of pixels that the first file tells, in µm."""
    from napari_cellenhance.io.images import read
    from napari_cellenhance.workflows._targets import find_sources

    if data.suffix.lower() == ".json":
        return {}
    return {axis: abs(size) for axis, size in read(find_sources(data)[0]).pixel_size_um.items()}


def psf_of(synthesis: Synthesis, n_dims: Literal[2, 3]) -> NDArray[np.float64]:
    """Point spread function: computed, or from the image of a point.

    Raises
    ------
    ParameterError
        The size of the pixels is not known.
    ImageError
        An image of a point that cannot be used.
    """
    if synthesis.psf_file is None:
        return point_spread(synthesis.optics, n_dims)
    from napari_cellenhance.io.images import read

    return measured_psf(np.squeeze(read(synthesis.psf_file).image), n_dims)


def group_of(name: str) -> str:
    """File or layer that an image comes from: its name without the number of the plane."""
    return name.rsplit(", ", 1)[0]


def expose_images(
    images: Sequence[RawImage],
    synthesis: Synthesis,
    n_dims: Literal[2, 3],
    seed: int,
    *,
    on_image: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> list[SemiPair]:
    """Pairs of every image (each of its channels by itself) and level; fewer after a cancel.

    Raises
    ------
    ParameterError, ImageError
        As :func:`psf_of`; an image without contrast.
    """
    psf = psf_of(synthesis, n_dims)
    pairs: list[SemiPair] = []
    index = 0
    for i, image in enumerate(images):
        on_image(Progress(n_done=i, n_total=len(images), message=f"Exposing {image.name}"))
        for c, pixels in enumerate(image.pixels):
            if is_cancelled():
                return pairs
            name = image.name if len(image.pixels) == 1 else f"{image.name}, channel {c}"
            clean = clean_target(pixels, synthesis.preparation)
            for poor, exposure in exposures(clean, psf, synthesis.levels, seed=seed, index=index):
                pairs.append(
                    SemiPair(f"{name}, {exposure.level}", group_of(image.name), poor, clean, exposure, image.weight)
                )
            index += 1
    return pairs


def first_image(pairs: Sequence[SemiPair]) -> list[SemiPair]:
    """Pairs of the first clean image."""
    return [pair for pair in pairs if pair.exposure.seed[1] == pairs[0].exposure.seed[1]]


def preview_png(path: Path, pairs: Sequence[SemiPair], seed: int, patch_px: int = 128) -> None:
    """Draw a random patch that shows something: clean, and at every level; of a volume its middle plane."""
    from napari_cellenhance.core.paired_patches import PatchPlaces
    from napari_cellenhance.io.panel_figures import Picture, pictures_png

    middle = (pairs[0].clean.shape[0] // 2,) if pairs[0].clean.ndim == 3 else ()
    clean = pairs[0].clean[middle]
    places = PatchPlaces(clean, [min(patch_px, n) for n in clean.shape])
    window = places.draw(np.random.default_rng(seed))
    limits = (0.0, 1.0)
    shown = [Picture("clean", clean[window], limits=limits)]
    shown += [Picture(pair.exposure.level, pair.poor[middle][window], limits=limits) for pair in pairs]
    pictures_png(path, {pairs[0].group: shown})


# --- files ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesizeRequest:
    """Make pairs from clean images and write them.

    Parameters
    ----------
    data : path, or tuple of NoisyLayer
        A clean image file, a folder of them, a JSON list of sources, or images in memory.
    out : path
        Folder that gets the folders ``noisy`` and ``clean``, ``synthesis.json``, ``exposures.csv`` and ``preview.png``.
    data_root, axes, channels
        As for ``workflows.noisy_images.read_files``.
    n_dims : 2 or 3
        Planes or volumes.
    synthesis : Synthesis
    n_patches : int
        Also write so many normalised patches of each pair as ``patches.npz`` (arrays X and Y, and axes), for other
        programs.
    patch_px : int
        Their side.
    overwrite : bool
        Replace the pairs of an earlier run in that folder.
    """

    data: Data
    out: str | os.PathLike[str]
    data_root: str | os.PathLike[str] | None = None
    axes: str = ""
    channels: Literal["all", "grey"] | tuple[int, ...] = "all"
    n_dims: Literal[2, 3] = 2
    synthesis: Synthesis = field(default_factory=Synthesis)
    seed: int = 0
    n_patches: int = 0
    patch_px: int = 64
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.n_dims not in (2, 3) or self.n_patches < 0 or self.patch_px < 1:
            raise ParameterError(
                f"{self.n_dims} dimensions, {self.n_patches} patches of {self.patch_px} px; expected 2 or 3, and 0 or "
                "more patches"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesizeResult:
    """What was written; ``is_complete`` is False after a cancel, and then there is nothing."""

    n_images: int
    n_pairs: int
    log: Path | None
    is_complete: bool = True


def run(
    request: SynthesizeRequest,
    *,
    on_progress: OnProgress = no_progress,
    is_cancelled: IsCancelled = never_cancelled,
) -> SynthesizeResult:
    """Make and write pairs.

    Raises
    ------
    ImageError, AxesError, ParameterError
        Images that cannot be read, a blur that cannot be computed.
    TargetExistsError
        The folder holds pairs already.
    WriteError
        It cannot be written.
    """
    from napari_cellenhance.workflows._evaluate_cells import made_folder

    out = made_folder(Path(request.out))
    folders = {kind: made_folder(out / kind) for kind in ("noisy", "clean")}
    earlier = _earlier(out, folders.values())
    if earlier and not request.overwrite:
        raise TargetExistsError(f"{out} holds pairs already; choose another folder, or allow overwriting")
    on_progress(Progress(n_done=0, n_total=0, message="Reading the images"))
    images, synthesis = read_clean(
        request.data, request.synthesis, data_root=request.data_root, axes=request.axes, channels=request.channels,
        n_dims=request.n_dims,
    )  # fmt: skip
    pairs = expose_images(
        images, synthesis, request.n_dims, request.seed, on_image=on_progress, is_cancelled=is_cancelled
    )
    if is_cancelled():
        return SynthesizeResult(n_images=len(images), n_pairs=0, log=None, is_complete=False)
    for path in earlier:
        path.unlink(missing_ok=True)
    log = _write(request, synthesis, pairs, images, folders)
    return SynthesizeResult(n_images=len({pair.exposure.seed[1] for pair in pairs}), n_pairs=len(pairs), log=log)


def _earlier(out: Path, folders: Any) -> list[Path]:
    """Files of an earlier run; images that are not in its log are a mistake."""
    there = {path for folder in folders for path in folder.iterdir() if not path.name.startswith(".")}
    try:
        stored = load_json(out / LOG)["pairs"]
        logged = {out / str(pair[kind]) for pair in stored for kind in ("noisy", "clean")}
    except (OSError, ValueError, KeyError, TypeError):
        logged = set()
    if there - logged:
        odd = min(there - logged)
        raise TargetExistsError(f"{odd} is there already, and was not made by this command; choose another folder")
    return sorted(there)


def _write(
    request: SynthesizeRequest,
    synthesis: Synthesis,
    pairs: Sequence[SemiPair],
    images: Sequence[RawImage],
    folders: Mapping[str, Path],
) -> Path:
    from napari_cellenhance import __version__
    from napari_cellenhance.io.images import write
    from napari_cellenhance.io.reports import write_json
    from napari_cellenhance.io.safe_write import safe_name
    from napari_cellenhance.io.tables import write_table

    out = Path(request.out)
    axes = "YX" if request.n_dims == 2 else "ZYX"
    optics = synthesis.optics
    sizes = {"Y": optics.pixel_um, "X": optics.pixel_um, "Z": optics.step_um}
    rows = []
    for i, pair in enumerate(pairs):
        name = f"{i:05d}_{safe_name(pair.name).replace(' ', '_').replace(',', '')}.ome.tif"
        for kind, image in (("noisy", pair.poor), ("clean", pair.clean)):
            step = {"software": "napari-cellenhance", "step": "synthesize", "member": kind, "pair": pair.name}
            write(
                folders[kind] / name, image, axes, pixel_size_um={a: sizes[a] for a in axes if sizes[a]},
                provenance=step | {"exposure": pair.exposure.to_dict()}, dtype="keep", overwrite=True,
            )  # fmt: skip
        rows.append(
            {"noisy": f"noisy/{name}", "clean": f"clean/{name}", "image": pair.name, "group": pair.group}
            | pair.exposure.to_dict()
        )
    preview_png(out / "preview.png", first_image(pairs), request.seed)
    if request.n_patches:
        _write_patches(out / "patches.npz", pairs, request, axes)
    table = [{k: " ".join(map(str, v)) if isinstance(v, tuple) else v for k, v in row.items()} for row in rows]
    write_table(out / "exposures.csv", table)
    record = {
        "software": "napari-cellenhance", "version": __version__, "synthesis": synthesis.to_dict(),
        "seed": request.seed, "n_dims": request.n_dims, "images": [image.name for image in images], "pairs": rows,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    return write_json(out / LOG, record)


def _write_patches(path: Path, pairs: Sequence[SemiPair], request: SynthesizeRequest, axes: str) -> None:
    """Patches of both members, each pair normalised by ranks drawn for the patch, as (S, C, [Z,] Y, X)."""
    from napari_cellenhance.core.paired_patches import DRAWN_HIGH, DRAWN_LOW, PatchPlaces, PercentileCurve
    from napari_cellenhance.io.safe_write import atomic_path

    rng = np.random.default_rng([request.seed, len(pairs)])
    found: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])
    for pair in pairs:
        sides = [request.patch_px] * 2
        sides = sides if pair.clean.ndim == 2 else [min(request.patch_px, pair.clean.shape[0]), *sides]
        places = PatchPlaces(pair.clean, sides)
        curves = [PercentileCurve.of(image) for image in (pair.poor, pair.clean)]
        for _ in range(request.n_patches):
            window = places.draw(rng)
            ranks = float(rng.uniform(*DRAWN_LOW)), float(rng.uniform(*DRAWN_HIGH))
            for image, curve, kept in zip((pair.poor, pair.clean), curves, found, strict=True):
                low, high = curve.at(*ranks)
                kept.append(((image[window] - low) / max(high - low, 1e-20)).astype(np.float32))
    if len({patch.shape for patch in found[0]}) > 1:
        raise ImageError("the volumes have different numbers of planes, so their patches make no single array")
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        x, y = (np.stack(kept)[:, None] for kept in found)
        np.savez_compressed(stream, X=x, Y=y, axes="SC" + axes)
