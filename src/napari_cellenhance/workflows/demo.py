"""Enhance a bundled image: a picture to look at, and a file to work with."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_cellenhance.core.errors import WriteError
from napari_cellenhance.workflows.progress import OnProgress, no_progress
from napari_cellenhance.workflows.requests import DEFAULT_FILTER, EnhanceRequest

__all__ = ["SAMPLE", "DemoResult", "run"]

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "nuclei.tif"
"""Dim fluorescent nuclei of BBBC038 (CC0), YX, uint8; not among the training images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """Where the results are."""

    picture: Path
    """Before and after, side by side, as PNG."""
    image: Path
    """The enhanced image as OME-TIFF, with the recipe that made it."""
    seconds: float
    """Reading, loading the model, and enhancing; without writing."""
    note: str
    """Filter, strength and device, in words."""


def run(
    folder: str | os.PathLike[str],
    *,
    filter_id: str = DEFAULT_FILTER,
    strength: float | None = None,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    on_progress: OnProgress = no_progress,
) -> DemoResult:
    """Enhance the sample, and write ``before_after.png`` and ``nuclei_enhanced.ome.tif``.

    Parameters
    ----------
    folder : path
        Made if missing. An earlier demo in it is replaced.
    filter_id, strength, device, precision
        As in :class:`~napari_cellenhance.workflows.requests.EnhanceRequest`.

    Raises
    ------
    ImageError, OSError
        The sample is missing: an incomplete installation.
    WriteError
        The folder cannot be made or written.
    ModelNotFoundError, ParameterError, DeviceError, DownloadError, ChecksumError
        As in :func:`napari_cellenhance.workflows.enhance.run`.
    """
    from napari_cellenhance.io.images import read, write
    from napari_cellenhance.io.reports import before_after_png
    from napari_cellenhance.workflows import enhance

    out = Path(folder)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"the folder {out} cannot be made ({error.strerror}); choose another one") from error
    started = time.perf_counter()
    sample = read(SAMPLE)
    request = EnhanceRequest(
        image=sample.image, axes=sample.axes, filter_id=filter_id, strength=strength, device=device,
        precision=precision, source_name=SAMPLE.name, pixel_size_um=sample.pixel_size_um,
    )  # fmt: skip
    result = enhance.run(request, on_progress=on_progress)
    seconds = time.perf_counter() - started
    recipe = result.provenance
    title = f"{recipe['title']}, strength {recipe['strength']:g}"
    image = write(
        out / "nuclei_enhanced.ome.tif", result.image, result.axes, pixel_size_um=sample.pixel_size_um,
        provenance=recipe, overwrite=True,
    )  # fmt: skip
    picture = before_after_png(out / "before_after.png", sample.image, result.image, titles=("before", title))
    place = f"{recipe['device']} in {recipe['precision']}" if recipe["device"] else "nothing to compute"
    return DemoResult(picture=picture, image=image, seconds=seconds, note=f"{title}, {place}")
