"""How a result was made, as a JSON-ready dictionary: one shape for every method and every door."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np

from napari_cellenhance.workflows.catalog import FilterSpec
from napari_cellenhance.workflows.requests import NOT_QUANTITATIVE, EnhanceRequest, Reading
from napari_cellenhance.zoo.cards import ModelCard

__all__ = [
    "Maker",
    "Measured",
    "describe_run",
    "describe_step",
    "hash_image",
    "maker_of_card",
    "maker_of_spec",
    "method_of",
    "repeated_notes",
    "versions",
]

_METHODS = {
    "nunet": "NU-Net", "n2v": "Noise2Void", "care": "CARE", "semantic": "semantic filter", "aep": "AEP",
    "voidseg": "VoidSeg", "stardist": "StarDist", "bioimageio": "BioImage.IO model",
}  # fmt: skip
"""Recipe of a card → the method as people know it."""
_METHOD_OF_STEP = {"denoise": "Noise2Void", "restore": "CARE", "separate": "semantic filter"}
"""For records that were written before they named their method."""
_PIECE_BYTES = 64_000_000
_ALL_BYTES = 2_000_000_000
_SAMPLE_PX, _N_SAMPLES = 256, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """The filter or model of a step."""

    id: str
    title: str
    method: str
    version: str
    sha256: str
    """Of its weights; empty for a classical filter, which the version of this program describes."""
    reference: str
    training_seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a step measured on the image, and how it computed.

    Parameters
    ----------
    axes_out : str
        Axes of the result.
    normalization : mapping
        Name, settings, and what was fitted.
    calibration : mapping
        All else that the image decided, or the training left: statistics, thresholds, factors.
    device, precision : str or None
        None where nothing was computed (strength 0).
    tile_px, halo_px : int or None
        Side of a tile, and the context around it; None where planes were not cut, or the method fixes it itself.
    """

    axes_out: str
    normalization: Mapping[str, Any]
    calibration: Mapping[str, Any]
    device: str | None
    precision: str | None
    tile_px: int | None
    halo_px: int | None = None


class Asked(Reading, Protocol):
    """Fields that all requests share."""

    @property
    def statistics(self) -> str: ...
    @property
    def source_name(self) -> str: ...
    @property
    def pixel_size_um(self) -> dict[str, float]: ...
    @property
    def earlier(self) -> Mapping[str, Any] | None: ...


def maker_of_card(card: ModelCard) -> Maker:
    """Maker for a model."""
    seed = card.training.get("seed")
    return Maker(
        id=card.id, title=card.title, method=_METHODS.get(card.recipe, card.recipe), version=card.version,
        sha256=card.file.sha256, reference=card.citation, training_seed=seed if isinstance(seed, int) else None,
    )  # fmt: skip


def maker_of_spec(spec: FilterSpec) -> Maker:
    """Maker for a filter, learned or classical."""
    if spec.card is not None:
        return maker_of_card(spec.card)
    return Maker(
        id=spec.info.id, title=spec.info.title, method=f"{spec.info.title} (classical)", version=spec.version,
        sha256=spec.sha256, reference=spec.info.reference,
    )  # fmt: skip


def describe_step(
    step: str, request: Asked, maker: Maker, measured: Measured, warnings: Sequence[str], **own: Any
) -> dict[str, Any]:
    """Record of one step: everything needed to make the result again, to judge it, and to cite the method.

    Parameters
    ----------
    step : str
        "enhance", "denoise", "restore", "separate" or "segment".
    warnings : sequence of str
        What the user was told.
    **own
        Settings that this kind of step has beside the common ones; ready for JSON.

    Returns
    -------
    dict
        The same keys for every step, and its own; see ``docs/trust.md``.
    """
    return {
        "software": "napari-cellenhance", "step": step, "method": maker.method,
        "model": maker.id, "title": maker.title, "version": maker.version, "sha256": maker.sha256,
        "reference": maker.reference, "strength": None,
        "axes": request.axes, "axes_out": measured.axes_out,
        "channels": request.channels if isinstance(request.channels, str) else list(request.channels),
        "statistics": request.statistics,
        "region": None if request.region is None else asdict(request.region),
        "normalization": dict(measured.normalization), "calibration": dict(measured.calibration),
        "device": measured.device, "precision": measured.precision,
        "tile_px": measured.tile_px, "halo_px": measured.halo_px,
        "seeds": {"run": None, "training": maker.training_seed},
        **own,
        "source": {
            "name": request.source_name, "shape": [int(n) for n in np.shape(request.image)],
            "dtype": str(getattr(request.image, "dtype", type(request.image).__name__)),
            "sha256": hash_image(request.image), "sha256_of": "all pixels" if _is_all(request.image) else "a sample",
            "pixel_size_um": dict(request.pixel_size_um),
        },
        "earlier": None if request.earlier is None else dict(request.earlier),
        "applied_before": _times_before(maker.method, request.earlier),
        "versions": versions(), "warnings": _with_repeated(step, request, maker, measured, warnings),
        "statement": NOT_QUANTITATIVE,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def _with_repeated(step: str, request: Asked, maker: Maker, measured: Measured, warnings: Sequence[str]) -> list[str]:
    """Warnings, with that of the same method applied again, whoever calls."""
    again = [] if step == "segment" or measured.device is None else repeated_notes(maker, request.earlier)
    return [*warnings, *(sentence for sentence in again if sentence not in warnings)]


def describe_run(
    request: EnhanceRequest,
    spec: FilterSpec,
    *,
    strength: float,
    axes_out: str,
    normalizers: list[dict[str, Any]],
    engine: Mapping[str, Any],
    warnings: tuple[str, ...],
    strength_map: dict[str, Any] | None = None,
    step: str = "enhance",
) -> dict[str, Any]:
    """Record of an enhancement.

    Parameters
    ----------
    normalizers : list of dict
        One per plane or per channel, with its position and its fitted parameters.
    engine : mapping
        Device, precision, tile side and halo; empty where nothing was computed.
    strength_map : dict or None
        Of a strength that differs from place to place.
    step : str
        Another word for what is only like an enhancement.
    """
    measured = Measured(
        axes_out=axes_out,
        normalization={"name": spec.normalizer, "settings": dict(spec.normalizer_settings), "fitted": normalizers},
        calibration={"measured_on": request.statistics, "n_planes_pooled": engine.get("n_planes_pooled")},
        device=engine.get("device"), precision=engine.get("precision"), tile_px=engine.get("tile_px"),
        halo_px=engine.get("halo_px"),
    )  # fmt: skip
    return describe_step(
        step, request, maker_of_spec(spec), measured, warnings,
        filter=spec.info.id, strength=strength, strength_label=spec.info.strength.label,
        strength_suggested=None if request.suggestion is None else asdict(request.suggestion),
        strength_map=strength_map, objects_are_dark=request.objects_are_dark,
        segment=None if request.segment is None else asdict(request.segment),
        blobs=None if request.blobs is None else asdict(request.blobs),
        **{name: value for name, value in engine.items() if name not in ("device", "precision", "tile_px", "halo_px")},
    )  # fmt: skip


# --- the same method twice ---------------------------------------------------------------------


def method_of(record: Mapping[str, Any]) -> str:
    """Method that a record tells of; empty for one of something else."""
    if isinstance(record.get("method"), str):
        return str(record["method"])
    return _METHOD_OF_STEP.get(str(record.get("step")), "")


def _chain(record: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    while isinstance(record, Mapping):
        yield record
        record = record.get("earlier")


def _times_before(method: str, earlier: Mapping[str, Any] | None) -> int:
    return sum(method_of(record) == method for record in _chain(earlier))


def repeated_notes(maker: Maker, earlier: Mapping[str, Any] | None) -> list[str]:
    """Sentence of warning where an image was made by the same method already; else none.

    Parameters
    ----------
    earlier : mapping or None
        Record of the image, with its chain of earlier steps.
    """
    if not (n := _times_before(maker.method, earlier)):
        return []
    times = "once" if n == 1 else f"{n} times"
    text = (
        f"{maker.method} was applied to this image {times} before: each time it makes more of what it made itself, so "
        "noise can become structure. Go back to the original image unless you mean it."
    )
    return [text]


# --- pixels and versions -----------------------------------------------------------------------


def hash_image(image: Any) -> str | None:
    """SHA-256 of shape, dtype and bytes (C order, lowest byte first); the same for lazy arrays, which are read.

    Of an array that is not in memory and larger than 2 GB: of evenly spaced windows. None for what is no array.

    >>> hash_image(np.zeros((2, 2), np.uint8))[:8]
    '1a5ae8fb'
    """
    dtype = getattr(image, "dtype", None)
    if not isinstance(dtype, np.dtype) or not hasattr(image, "shape"):
        return None
    little = dtype.newbyteorder("<")
    digest = hashlib.sha256(f"{tuple(image.shape)}{little.str}".encode())
    for part in _pieces(image) if _is_all(image) else _samples(image):
        digest.update(np.ascontiguousarray(part, dtype=little).data)
    return digest.hexdigest()


def _n_bytes(image: Any) -> int:
    return math.prod(int(n) for n in image.shape) * int(image.dtype.itemsize)


def _is_all(image: Any) -> bool:
    """Whether a hash speaks of every pixel."""
    return isinstance(image, np.ndarray) or not hasattr(image, "dtype") or _n_bytes(image) <= _ALL_BYTES


def _pieces(image: Any) -> Iterator[Any]:
    """Parts in C order, none of them large."""
    if len(image.shape) < 2 or _n_bytes(image) <= _PIECE_BYTES:
        yield np.asarray(image)
        return
    n_at_once = _PIECE_BYTES // max(1, _n_bytes(image) // int(image.shape[0]))
    if n_at_once < 1:
        for index in range(int(image.shape[0])):
            yield from _pieces(image[index])
        return
    for start in range(0, int(image.shape[0]), n_at_once):
        yield np.asarray(image[start : start + n_at_once])


def _samples(image: Any) -> Iterator[Any]:
    """The middle of planes all through the image."""
    leading = tuple(int(n) for n in image.shape[:-2])
    middle = tuple(slice(max(0, (n - _SAMPLE_PX) // 2), (n + _SAMPLE_PX) // 2) for n in map(int, image.shape[-2:]))
    n_planes = math.prod(leading)
    for number in np.unique(np.linspace(0, n_planes - 1, _N_SAMPLES).astype(int)):
        index = tuple(int(i) for i in np.unravel_index(number, leading)) if leading else ()
        yield np.asarray(image[(*index, *middle)])


def versions() -> dict[str, str]:
    """Versions of Python, this program, torch and numpy."""
    versions = {"python": platform.python_version()}
    for package in ("napari-cellenhance", "torch", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            # Run from a checkout on the path: there is no metadata to read.
            module = sys.modules.get(package.replace("-", "_"))
            versions[package] = str(getattr(module, "__version__", "unknown"))
    return versions
