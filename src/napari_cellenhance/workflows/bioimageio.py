"""Packages of the BioImage Model Zoo: our models written as one, one of others imported; as public Python calls."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.zoo.archives import members
from napari_cellenhance.zoo.bioimageio_package import DESCRIPTIONS
from napari_cellenhance.zoo.manifest import find_model

__all__ = ["export_bioimageio", "import_bioimageio", "is_package", "package_name"]


def export_bioimageio(
    model_id: str,
    path: str | os.PathLike[str],
    *,
    strength: float | None = None,
    image: NDArray[Any] | None = None,
    authors: tuple[str, ...] = (),
) -> Path:
    """Write a model as a package of the BioImage Model Zoo, which other programs can run.

    Parameters
    ----------
    model_id : str
        Of NU-Net, Noise2Void, CARE, the semantic filter, AEP or VoidSeg; of single planes and one channel.
    path : str or path-like
        File (``.zip``), or a folder in which it is named after the model; a folder that is not there is made.
    strength : float or None
        Where the slider of a NU-Net stands for good; None takes its default.
    image : ndarray of shape (Y, X), optional
        Test image; None makes one of blobs.
    authors : tuple of str
        Names; empty takes the developers of this plugin.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    ModelNotFoundError
        No such model.
    ParameterError
        A model that is no function of a plane, a strength outside the slider, or an image that does not fit.
    DownloadError, ChecksumError
        Its weights cannot be had.
    WriteError
        The file cannot be written; nothing half-written stays.
    """
    from napari_cellenhance.zoo.bioimageio_export import export_package

    card, target = find_model(model_id), Path(path)
    if target.is_dir() or not target.suffix:
        target = target / package_name(model_id)
    if target.suffix.lower() != ".zip":
        raise ParameterError(f"{target.name!r} is no name for a package; expected a folder, or a name ending in .zip")
    return export_package(card, target, strength=strength, image=image, authors=authors)


def import_bioimageio(
    path: str | os.PathLike[str],
    *,
    model_id: str | None = None,
    channel: int | None = None,
    trust_torchscript: bool = False,
) -> str:
    """Import a package of the BioImage Model Zoo; it is then a filter like any other, in the group BioImage.IO.

    Weights may be ONNX (needs the extra ``onnx``), TorchScript, or a state dict of an architecture of this plugin.
    Code of a package is never run. A TorchScript file is a program that may read and write files; it is loaded only
    with ``trust_torchscript``.

    Parameters
    ----------
    path : str or path-like
        The package (zip), as downloaded; it is only read.
    model_id : str or None
        Name in files and commands; None makes one from the title.
    channel : int or None
        Which channel of the result is shown, from 0; None shows all of a network that gives as many as it takes.
    trust_torchscript : bool
        Whether those who made the package are trusted.

    Returns
    -------
    str
        Id of the model.

    Raises
    ------
    WeightsError, ChecksumError
        No, damaged or not trusted weights.
    ManifestError
        Something that this version cannot run as its authors meant it; says what.
    ParameterError
        ONNX weights, and onnxruntime is not installed.
    WriteError, OSError
        A file cannot be read or written.
    """
    from napari_cellenhance.zoo.bioimageio_import import import_package

    return import_package(path, model_id=model_id, channel=channel, trust_torchscript=trust_torchscript).id


def is_package(path: str | os.PathLike[str]) -> bool:
    """Whether an archive has the description of a package at its top; looks at names only.

    Raises
    ------
    WeightsError, OSError
        No archive, one that is not to be trusted, or one that cannot be read.
    """
    return any(name in DESCRIPTIONS for name, _, _ in members(Path(path)))


def package_name(model_id: str) -> str:
    """File name of the package of a model."""
    return f"{model_id}.bioimageio.zip"
