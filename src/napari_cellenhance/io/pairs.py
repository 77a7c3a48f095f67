"""Noisy images together with clean ones of the same places, from files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.io.datasets import read_planes
from napari_cellenhance.io.source_lists import check_settings, read_source_list

__all__ = ["PairedSource", "read_pairs"]

_KNOWN = {"name", "noisy", "clean", "noise", "license"}
_NOISE = {"sigma", "photons", "read_sigma", "seed", "range"}


@dataclass(frozen=True, slots=True, eq=False)
class PairedSource:
    """Pairs of one kind, as float32 planes of shape (Y, X) in their own grey values."""

    name: str
    noisy: tuple[NDArray[np.float32], ...]
    clean: tuple[NDArray[np.float32], ...]


def read_pairs(
    path: str | os.PathLike[str], *, data_root: str | os.PathLike[str] | None = None
) -> tuple[PairedSource, ...]:
    """Read pairs.

    Parameters
    ----------
    path : path
        A folder with the folders ``noisy`` and ``clean``, whose files belong together in the order of their names; or
        a JSON file ``{"sources": [{"name", "noisy": {…}, "clean": {…}}]}`` with entries of
        :func:`~napari_cellenhance.io.datasets.read_planes`. In place of ``noisy`` a source may say which ``noise`` is
        added to its clean images: ``{"sigma", "seed"}`` in grey values, or ``{"photons", "read_sigma", "seed"}`` for
        images stretched to [0, 1] first; then to 0…``range`` (255), all without clipping.
    data_root : path, optional
        Folder that the paths of a JSON file start from; default: its own.

    Raises
    ------
    ImageError
        Nothing there, not readable, another number or size of clean images.
    ParameterError
        A source with unknown settings.
    """
    place = Path(path)
    if place.is_dir():
        return (_source({"name": place.name, "noisy": {"folder": "noisy"}, "clean": {"folder": "clean"}}, place),)
    root = place.parent if data_root is None else Path(data_root)
    return tuple(_source(entry, root) for entry in read_source_list(place))


def _source(entry: Mapping[str, Any], root: Path) -> PairedSource:
    check_settings(entry, _KNOWN, "list of pairs")
    if "clean" not in entry or ("noisy" in entry) == ("noise" in entry):
        raise ParameterError(
            f"the pairs {entry.get('name')!r} have the settings {sorted(entry)}; expected name, clean, license, and "
            "either noisy or noise"
        )
    name = str(entry.get("name", "pairs"))
    if "noise" in entry:
        return _with_noise(name, read_planes(entry["clean"], root)[0], entry["noise"])
    noisy, clean = (
        tuple(np.asarray(plane, np.float32) for plane in read_planes(entry[kind], root)[0])
        for kind in ("noisy", "clean")
    )
    if len(noisy) != len(clean) or not noisy:
        raise ImageError(f"“{name}” has {len(noisy)} noisy and {len(clean)} clean images; expected as many of each")
    for i, (one, other) in enumerate(zip(noisy, clean, strict=True)):
        if one.shape != other.shape:
            raise ImageError(f"pair {i} of “{name}” is {one.shape} noisy and {other.shape} clean; expected one size")
    return PairedSource(name, noisy, clean)


def _with_noise(name: str, planes: list[NDArray[Any]], noise: Mapping[str, Any]) -> PairedSource:
    from napari_cellenhance.core.noise import gaussian, poisson_gaussian
    from napari_cellenhance.core.sources import stretch

    check_settings(noise, _NOISE, f"noise of {name!r}")
    if ("sigma" in noise) == ("photons" in noise):
        raise ParameterError(f"the noise of {name!r} is {dict(noise)}; expected sigma, or photons and read_sigma")
    rng = np.random.default_rng(int(noise.get("seed", 0)))
    if "sigma" in noise:
        clean = tuple(np.asarray(plane, np.float32) for plane in planes)
        return PairedSource(name, tuple(gaussian(plane, float(noise["sigma"]), rng) for plane in clean), clean)
    factor = np.float32(noise.get("range", 255.0))
    unit = [stretch(plane) for plane in planes]
    photons, read_sigma = float(noise["photons"]), float(noise.get("read_sigma", 0.0))
    noisy = tuple(factor * poisson_gaussian(plane, photons, read_sigma, rng) for plane in unit)
    return PairedSource(name, noisy, tuple(factor * plane for plane in unit))
