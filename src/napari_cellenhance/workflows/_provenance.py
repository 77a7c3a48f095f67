"""How a result was made, as a JSON-ready dictionary."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from napari_cellenhance.workflows.catalog import FilterSpec
from napari_cellenhance.workflows.requests import EnhanceRequest

__all__ = ["describe_run", "hash_image", "versions"]


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
) -> dict[str, Any]:
    """Everything needed to make the result again, and to cite the filter.

    Parameters
    ----------
    normalizers : list of dict
        One per plane or per channel, with its position and its fitted parameters.
    engine : mapping
        Device, precision, tile side and halo; empty where nothing was computed.
    strength_map : dict or None
        Of a strength that differs from place to place.
    """
    return {
        "software": "napari-cellenhance",
        "filter": spec.info.id,
        "title": spec.info.title,
        "version": spec.version,
        "sha256": spec.sha256,
        "reference": spec.info.reference,
        "strength": strength,
        "strength_label": spec.info.strength.label,
        "strength_suggested": None if request.suggestion is None else asdict(request.suggestion),
        "strength_map": strength_map,
        "objects_are_dark": request.objects_are_dark,
        "axes": request.axes,
        "axes_out": axes_out,
        "channels": request.channels if isinstance(request.channels, str) else list(request.channels),
        "statistics": request.statistics,
        "region": None if request.region is None else asdict(request.region),
        "normalization": {"name": spec.normalizer, "settings": dict(spec.normalizer_settings), "fitted": normalizers},
        "segment": None if request.segment is None else asdict(request.segment),
        "blobs": None if request.blobs is None else asdict(request.blobs),
        **engine,
        "source": {
            "name": request.source_name,
            "shape": [int(n) for n in np.shape(request.image)],
            "dtype": str(getattr(request.image, "dtype", type(request.image).__name__)),
            "sha256": hash_image(request.image),
            "pixel_size_um": dict(request.pixel_size_um),
        },
        "earlier": None if request.earlier is None else dict(request.earlier),
        "versions": versions(),
        "warnings": list(warnings),
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def hash_image(image: Any) -> str | None:
    """SHA-256 of shape, dtype and bytes (C order); None for an image that is not in memory.

    >>> hash_image(np.zeros((2, 2), np.uint8))[:8]
    '1a5ae8fb'
    """
    if type(image) is not np.ndarray:
        return None
    digest = hashlib.sha256(f"{image.shape}{image.dtype.str}".encode())
    for part in image if image.ndim > 2 else (image,):
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("napari-cellenhance", "torch", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            # Run from a checkout on the path: there is no metadata to read.
            module = sys.modules.get(package.replace("-", "_"))
            versions[package] = str(getattr(module, "__version__", "unknown"))
    return versions
