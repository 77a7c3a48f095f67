"""A model of this plugin → a package of the BioImage Model Zoo that other programs can run.

The network is written as TorchScript, as a function of a whole plane: a program of other people needs nothing of ours
to run it. The package also holds the model card and the weights themselves, from which this plugin gets its own model
back, slider included.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError, WriteError
from napari_cellenhance.core.normalize import fit_normalizer
from napari_cellenhance.zoo.bioimageio_import import OUR_CONFIG
from napari_cellenhance.zoo.cache import resolve
from napari_cellenhance.zoo.cards import ModelCard
from napari_cellenhance.zoo.folders import replace_bytes
from napari_cellenhance.zoo.weights import load_model

__all__ = ["FORMAT_VERSION", "export_package", "spdx_of"]

FORMAT_VERSION = "0.5.4"
_SPDX = ("BSD-3-Clause", "MIT", "CC0-1.0", "CC-BY-4.0", "Apache-2.0", "GPL-3.0-only", "BSD-2-Clause")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_EPS = 1e-6


def export_package(
    card: ModelCard,
    target: str | os.PathLike[str],
    *,
    strength: float | None = None,
    image: NDArray[Any] | None = None,
    authors: tuple[str, ...] = (),
) -> Path:
    """Write a model as a package (zip).

    Parameters
    ----------
    card : ModelCard
        Of a model of single planes of one channel.
    target : str or path-like
        File to write; an existing one is replaced when the new one is whole.
    strength : float or None
        Where the slider of a NU-Net stands for good; None takes its default.
    image : ndarray of shape (Y, X), optional
        Test image, of which at most 512 px per side are taken; None makes one of blobs.
    authors : tuple of str
        Names; empty takes the developers of this plugin.

    Raises
    ------
    ParameterError
        A model that is no function of a plane, a strength outside the slider, or a test image that is none.
    DownloadError, ChecksumError, WeightsError
        Its weights cannot be had.
    WriteError
        The file cannot be written; nothing half-written stays.
    """
    from napari_cellenhance.core.models.exported import plane_function

    _check(card)
    at = _strength(card, strength)
    network = load_model(card)
    steps, before = _steps_before(card)
    names = {one.value: one.name for one in card.classes}
    function = plane_function(network, strength=at, classes=names, before=before)
    given = _test_image(image, function.least_px, function.grid_px)
    wanted = function.run(_prepared(card, given, before is not None))
    weights, script = resolve(card.file).read_bytes(), function.torchscript()
    files = {
        "weights.torchscript": script, "test_input.npy": _npy(given[None, None]), "test_output.npy": _npy(wanted[None]),
        "README.md": _words(card, at, function.halo_px).encode(), f"{OUR_CONFIG}.safetensors": weights,
    }  # fmt: skip
    described = _description(card, files, steps, at, authors)
    described["inputs"] = [_input(steps, function.least_px, function.grid_px)]
    described["outputs"] = [_output(function.channels, function.halo_px)]
    described["config"][OUR_CONFIG]["card"] = card.model_copy(update={"bundled": False}).model_dump(mode="json")
    return _write(Path(target), {"bioimageio.yaml": _yaml(described), **files})


def spdx_of(licence: str) -> str | None:
    """SPDX identifier of a licence as our cards name it; None for words that are none."""
    return licence if licence in _SPDX else None


def _check(card: ModelCard) -> None:
    if card.recipe in ("stardist", "bioimageio") or card.axes != "YX":
        what = {
            "stardist": "gives stars, not an image",
            "bioimageio": "came as a package of the zoo; hand on that package",
        }.get(card.recipe, "is for volumes; packages are written of models of single planes")
        raise ParameterError(f"“{card.title}” cannot be exported as a package: it {what}")


def _strength(card: ModelCard, strength: float | None) -> float:
    slider = card.strength
    at = slider.default if strength is None else float(strength)
    lowest = max(slider.minimum, slider.identity_below)
    if card.recipe == "nunet" and not lowest <= at <= slider.maximum:
        raise ParameterError(f"strength {at:g} is outside {lowest:g}…{slider.maximum:g}, which the model was made for")
    return at


def _steps_before(card: ModelCard) -> tuple[list[dict[str, Any]], Any]:
    """Processing of the description, and what has to go into the network because it has no name there."""
    name, settings = card.normalization.name, card.normalization.parameters
    axes = ["channel", "y", "x"]
    match name:
        case "percentile" | "minmax":
            lo, hi = (float(settings.get("lo", 3.0)), float(settings.get("hi", 99.8))) if name != "minmax" else (0, 100)
            scale = {"axes": axes, "min_percentile": lo, "max_percentile": hi, "eps": _EPS}
            clip = [{"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}}] if settings.get("clip") else []
            return [{"id": "scale_range", "kwargs": scale}, *clip], None
        case "meanstd":
            return [{"id": "zero_mean_unit_variance", "kwargs": {"axes": axes, "eps": _EPS}}], None
        case "unit8" | "fixed":
            low, high = (float(settings.get("low", 0.0)), float(settings.get("high", 1.0)))
            low, high = (0.0, 255.0) if name == "unit8" else (low, high)
            gain = 1.0 / (high - low)
            return [{"id": "scale_linear", "kwargs": {"gain": gain, "offset": -low * gain}}], None
        case "fixed_log":
            import torch

            low, high = float(settings["low"]), float(settings["high"])
            a, b = np.log1p(low), np.log1p(high)
            return [], lambda x: (torch.log1p(x.clamp(min=low)) - a) / (b - a)
        case "p99":
            from napari_cellenhance.core.models.exported import by_99th_percentile

            return [], by_99th_percentile
        case _:
            raise ParameterError(f"grey values normalised by {name!r} have no counterpart in packages of the zoo")


def _prepared(card: ModelCard, image: NDArray[np.float32], is_in_network: bool) -> NDArray[np.float32]:
    if is_in_network:
        return image
    return fit_normalizer(card.normalization.name, image, **card.normalization.parameters).normalize(image)


def _test_image(image: NDArray[Any] | None, least_px: int, grid_px: int) -> NDArray[np.float32]:
    """Test image with sides that every network takes."""
    if image is None:
        side = max(128, -(-least_px // 64) * 64)
        y, x = np.mgrid[:side, :side]
        rng = np.random.default_rng(0)
        cells = sum(
            np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * r * r))
            for cy, cx, r in rng.uniform((10, 10, 4), (side - 10, side - 10, 9), (14, 3))
        )
        return np.asarray(100 + 400 * cells + rng.normal(0, 20, (side, side)), np.float32)
    plane = np.asarray(image, np.float32)
    if plane.ndim != 2 or min(plane.shape) < least_px or not np.isfinite(plane).all():
        raise ParameterError(
            f"the test image has the shape {plane.shape}; expected one plane (Y, X) of at least {least_px} px per side"
        )
    height, width = (min(max(512, least_px), n // grid_px * grid_px) for n in plane.shape)
    return np.ascontiguousarray(plane[:height, :width])


# --- the description ------------------------------------------------------------------------


def _description(
    card: ModelCard, files: Mapping[str, bytes], steps: Any, at: float, authors: tuple[str, ...]
) -> dict[str, Any]:
    import torch

    licence = spdx_of(card.license)
    shown = " ".join(card.summary.split())
    return {
        "type": "model",
        "format_version": FORMAT_VERSION,
        "name": _plain(card.title),
        "description": shown[:1000],
        "authors": [{"name": name} for name in authors or ("napari-cellenhance developers",)],
        "cite": [{"text": card.citation or card.title, "url": _PAPERS[card.recipe]}],
        **({"license": licence} if licence else {}),
        "documentation": _file("README.md", files),
        "attachments": [_file(f"{OUR_CONFIG}.safetensors", files)],
        "tags": ["microscopy", "2d", "pytorch", "napari", card.recipe, _TASKS[card.recipe]],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": card.version,
        "weights": {
            "torchscript": {
                **_file("weights.torchscript", files),
                "pytorch_version": torch.__version__.split("+")[0],
                "comment": f"a function of the whole plane; strength {at:g}" if card.recipe == "nunet" else "",
            }
        },
        "config": {OUR_CONFIG: {"weights": f"{OUR_CONFIG}.safetensors", "strength": at, "licence": card.license}},
    }


_TASKS = {
    "nunet": "image-enhancement",
    "n2v": "denoising",
    "care": "image-restoration",
    "semantic": "image-restoration",
    "aep": "semantic-segmentation",
    "voidseg": "semantic-segmentation",
}
_PAPERS = {
    "nunet": "https://doi.org/10.1109/ICCVW60793.2023.00420",
    "aep": "https://doi.org/10.1038/s41598-024-53411-7",
    "n2v": "https://arxiv.org/abs/2211.08512",
    "care": "https://doi.org/10.1038/s41592-018-0216-7",
    "semantic": "https://arxiv.org/abs/1909.00691",
    "voidseg": "https://arxiv.org/abs/1911.12239",
}
"""Where the paper of a method is found; a package of the zoo has to say."""  # fmt: skip


def _input(steps: list[dict[str, Any]], least_px: int, grid_px: int) -> dict[str, Any]:
    size = {"min": least_px, "step": grid_px}
    return {
        "id": "image",
        "description": "one channel of a microscopy image, bright objects on dark ground, in its own grey values",
        "axes": [
            {"type": "batch"}, {"type": "channel", "channel_names": ["intensity"]},
            {"type": "space", "id": "y", "size": dict(size)}, {"type": "space", "id": "x", "size": dict(size)},
        ],
        "data": {"type": "float32"},
        "test_tensor": {"source": "test_input.npy"},
        "preprocessing": [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}, *steps],
    }  # fmt: skip


def _output(channels: tuple[str, ...], halo_px: int) -> dict[str, Any]:
    def side(name: str) -> dict[str, Any]:
        halo = {"halo": halo_px} if halo_px else {}
        return {"type": "space", "id": name, "size": {"tensor_id": "image", "axis_id": name}, **halo}

    return {
        "id": "result",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": [_identifier(name) for name in channels]},
            side("y"), side("x"),
        ],
        "data": {"type": "float32"},
        "test_tensor": {"source": "test_output.npy"},
    }  # fmt: skip


def _words(card: ModelCard, at: float, halo_px: int) -> str:
    slider = f"\nThe slider stands at {at:g} ({card.strength.label}).\n" if card.recipe == "nunet" else ""
    tiles = (
        f"Tiles need {halo_px} px of context on every side; with it they do not show."
        if halo_px
        else "A pixel depends on the whole plane: give whole planes, not tiles, or the tiles will show."
    )
    return (
        f"# {card.title}\n\n{card.summary}\n{slider}\n{tiles}\n\nGrey values of the result are not quantitative.\n\n"
        f"Licence: {card.license}\n\nCite: {card.citation}\n\nExported by napari-cellenhance, which gets its own model "
        f"back from this package. SHA-256 of its weights: `{card.file.sha256}`\n\n## Validation\n\nScores are in the "
        "model card in the description, under config.\n"
    )


def _file(name: str, files: Mapping[str, bytes]) -> dict[str, str]:
    return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}


def _plain(title: str) -> str:
    """Title without the signs that the specification does not allow in names."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in " _+-()") else "-" for c in title)
    return " ".join(kept.split())[:64].strip(" -") or "model"


def _identifier(name: str) -> str:
    return "_".join(name.split()) or "channel"


def _yaml(described: Mapping[str, Any]) -> bytes:
    import yaml

    class Plain(yaml.SafeDumper):  # type: ignore[misc,unused-ignore]
        """Writes every list and number where it is used, never a reference to another place."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    text: str = yaml.dump(dict(described), Dumper=Plain, sort_keys=False, allow_unicode=True, width=100)
    return text.encode("utf-8")


def _npy(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array, np.float32), allow_pickle=False)
    return buffer.getvalue()


def _write(target: Path, files: Mapping[str, bytes]) -> Path:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(target, buffer.getvalue())
    except OSError as error:
        raise WriteError(f"{target} cannot be written ({error.strerror or error}); nothing was changed") from error
    return target
