"""What each scheme of VoidSeg finds in one test image, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.io.panel_figures import Picture, pictures_png
from napari_cellenhance.workflows._evaluate_voidseg_tables import TITLES, Cell
from napari_cellenhance.workflows._evaluate_voidseg_train import METHODS, Images, open_level, shown_index

if TYPE_CHECKING:
    from napari_cellenhance.workflows.evaluate_voidseg import EvaluateVoidSegRequest

__all__ = ["write_picture"]

_LIMITS = (0.1, 99.9)
"""Percentiles of the image as acquired that are black and white in all grey pictures."""

Example = Mapping[str, NDArray[Any]]


def write_picture(
    request: EvaluateVoidSegRequest, images: Images, examples: Sequence[tuple[Cell, Example]]
) -> Path | None:
    """Draw ``objects.png``: one row for each noise and number of labels, one column for each method, of the first seed.

    Parameters
    ----------
    examples : sequence of (Cell, mapping)
        ``seen`` and ``labels`` of the image that is drawn; cells without them leave their place empty.

    Returns
    -------
    Path or None
        None where no cell has an example.
    """
    rows = {}
    for sigma in request.sigmas:
        for n in sorted(set(request.n_labelled)):
            here = {
                cell.method: example for cell, example in examples
                if (cell.sigma, cell.n_labelled, cell.seed) == (sigma, n, request.seeds[0]) and example
            }  # fmt: skip
            if here:
                rows[f"σ {sigma:g}, {n} patches"] = _row(request, images, sigma, here)
    if not rows:
        return None
    path = Path(request.out) / "objects.png"
    pictures_png(path, rows)
    return path


def _row(
    request: EvaluateVoidSegRequest, images: Images, sigma: float, examples: Mapping[str, Example]
) -> list[Picture]:
    index = shown_index(images)
    _, image, truth = images.test[index]
    limits = (float(np.percentile(image, _LIMITS[0])), float(np.percentile(image, _LIMITS[1])))
    noisy = open_level(images, sigma, request.split_seed).noisy[1][index]
    row = [Picture("noisy", noisy, limits=limits)]
    restored = [e["seen"] for method, e in examples.items() if METHODS[method][:2] == ("unet", True)]
    if restored and request.normalization == "paper":
        row.append(Picture("denoised", restored[0].astype(np.float32), limits=limits))
    for method in dict.fromkeys(request.methods):
        found = examples.get(method)
        row.append(Picture(TITLES[method], None if found is None else _coloured(found["labels"])))
    return [*row, Picture("truth", _coloured(truth))]


def _coloured(labels: NDArray[Any]) -> NDArray[np.float64]:
    """Labels → colours on black, of shape (Y, X, 3)."""
    from skimage.color import label2rgb

    coloured: NDArray[np.float64] = label2rgb(  # type: ignore[no-untyped-call]
        labels, bg_label=0, bg_color=(0, 0, 0)
    )
    return coloured
