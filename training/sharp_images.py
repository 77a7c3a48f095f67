"""Choose the sharp and clean fluorescence images of dsb2018 that `care-nuclei` takes for clean; prints their pages.

An image is taken where nuclei stand out by at least 20 grey values and 35 times the noise, on a ground darker than
a quarter of the brightest pixels, and where their edges are steep: the upper quartile of the gradient (σ 1 px) along
the edges is at least a fifth of the contrast per pixel, or 0.15 of it for nuclei wider than 25 px.

Usage: python training/sharp_images.py DATA_ROOT train
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_cellenhance.core.noise import estimate_sigma
from napari_cellenhance.core.object_size import median_diameter


def is_sharp(image: NDArray[Any], labels: NDArray[Any]) -> bool:
    """Whether an image (Y, X) with instance labels is good enough to be a target."""
    pixels = np.asarray(image, np.float32)
    inside = labels > 0
    outside = ~ndi.binary_dilation(inside, iterations=5)
    if not inside.any() or outside.sum() < 100:
        return False
    ground = float(np.median(pixels[outside]))
    contrast = float(np.median(pixels[inside])) - ground
    if contrast < 20 or contrast < 35 * estimate_sigma(pixels) or ground > 0.25 * np.percentile(pixels, 99.9):
        return False
    edges = ndi.binary_dilation(inside, iterations=2) & ~ndi.binary_erosion(inside, iterations=2)
    steepness = float(np.percentile(ndi.gaussian_gradient_magnitude(pixels, 1.0)[edges], 75)) / contrast
    return steepness >= (0.15 if (median_diameter(labels) or 0) > 25 else 0.2)


def main() -> None:
    root, split = Path(sys.argv[1]) / "dsb2018", sys.argv[2]
    rows = json.loads((root / "index.json").read_text(encoding="utf-8"))
    rows = [row for row in rows if row["type"] == "fluo" and row["split"] == split]
    files = {name: tifffile.TiffFile(root / name) for row in rows for name in (row["images"], row["labels"])}
    pages = []
    for row in rows:
        image, labels = (files[row[kind]].pages[row["page"]].asarray() for kind in ("images", "labels"))
        if is_sharp(image if image.ndim == 2 else image[..., 0], labels):
            pages.append(row["page"])
    print(json.dumps(pages))


if __name__ == "__main__":
    main()
