"""Crops for `keep-nuclei`: sharp nuclei of dsb2018 against nuclei far out of focus and specks, as a library.

Nuclei of the fluorescence images of 256×256 px, 8 to 20 px wide, sorted by the focus score (Laplacian of Gaussian,
σ 2 px, of the logarithm) times their diameter; thresholds are those proposed for all images of the split, the lower
one times FAR_BELOW: nuclei that an observer would not call blurred are no good examples of what to remove. Specks,
what stands out by six times the noise and bears no label, are unwanted, too. At most MOST of each kind are kept.

Usage: python training/focus_crops.py DATA_ROOT train OUT
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_cellenhance.core.crop_extraction import from_labels
from napari_cellenhance.core.crop_library import CropLibrary, FoundObject, merge
from napari_cellenhance.core.crop_options import CutOptions, GroundOptions, KeepOptions
from napari_cellenhance.core.focus import FocusOptions, FocusThresholds, propose_thresholds, sort_by_focus
from napari_cellenhance.core.noise import estimate_sigma
from napari_cellenhance.io.crop_folders import write_crops
from napari_cellenhance.io.crop_sheets import contact_sheet_png

FOCUS = FocusOptions(sigma_px=2.0)
MOST = 600
N_GROUNDS = 60
FAR_BELOW = 0.6


def specks(image: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Numbered bright places that no label touches."""
    pixels = np.asarray(image, np.float32)
    free = ~ndi.binary_dilation(labels > 0, iterations=4)
    if not free.any():
        return np.zeros(labels.shape, np.int64)
    bright = pixels > np.median(pixels[free]) + 6 * max(1.0, estimate_sigma(pixels))
    numbers, n = ndi.label(bright)
    touched = np.unique(numbers[~free])
    kept = np.isin(np.arange(n + 1), touched, invert=True)
    kept[0] = False
    return np.asarray(ndi.label(kept[numbers])[0], np.int64)


def library_of(image: NDArray[Any], labels: NDArray[Any], name: str) -> CropLibrary:
    """Nuclei with their scores; specks as unwanted; the image without either."""
    small = specks(image, labels)
    both = np.where(small > 0, small + labels.max(), labels)
    classes = {int(i): 1 if i <= labels.max() else 2 for i in np.unique(both) if i}
    options = CutOptions(
        keep=KeepOptions(min_area_px=9, max_area_px=314), focus=FOCUS, ground=GroundOptions(margin_px=2)
    )
    return from_labels(image, both, source=name, target=[1], classes=classes, options=options)


def _per_size(one: FoundObject) -> FoundObject:
    """The score, most of which comes from the edge, times the diameter in 10 px: large nuclei are no less sharp."""
    return replace(one, score=one.score * 2 * float(np.sqrt(one.crop.mask.sum() / np.pi)) / 10)


def thinned(objects: list[FoundObject], most: int, rng: np.random.Generator) -> list[FoundObject]:
    """At most so many, drawn evenly."""
    chosen = sorted(rng.permutation(len(objects))[:most])
    return [objects[i] for i in chosen]


def main() -> None:
    root, split, out = Path(sys.argv[1]) / "dsb2018", sys.argv[2], Path(sys.argv[3])
    rows = json.loads((root / "index.json").read_text(encoding="utf-8"))
    rows = [r for r in rows if (r["type"], r["split"], r["shape"][:2]) == ("fluo", split, [256, 256])]
    files = {name: tifffile.TiffFile(root / name) for row in rows for name in (row["images"], row["labels"])}
    parts = []
    for row in rows:
        image, labels = (files[row[kind]].pages[row["page"]].asarray() for kind in ("images", "labels"))
        parts.append(library_of(image if image.ndim == 2 else image[..., 0], labels, f"dsb2018-{row['page']:03d}"))
    everything = merge(parts)
    nuclei = [_per_size(one) for one in everything.of("target") if one.crop.mask.sum() >= 50]
    debris = list(everything.of("unwanted"))
    low, high = propose_thresholds([one.score for one in nuclei])
    sorted_ = sort_by_focus(replace(everything, objects=tuple(nuclei)), FocusThresholds(FAR_BELOW * low, high))
    rng = np.random.default_rng(0)
    chosen = [
        *thinned(list(sorted_.of("target")), MOST, rng),
        *thinned(list(sorted_.of("unwanted")), MOST // 2, rng), *thinned(debris, MOST // 2, rng),
    ]  # fmt: skip
    names = {one.crop.source for one in chosen}
    white = {name: value for name, value in everything.white.items() if name in names}
    grounds = tuple(ground for ground in everything.backgrounds if ground.source in names)[
        :: max(1, len(names) // N_GROUNDS)
    ]
    library = replace(everything, objects=tuple(chosen), backgrounds=grounds, white=white)
    write_crops(out, library, {"made_by": "training/focus_crops.py", "split": split})
    contact_sheet_png(out / "crops.png", library)
    print(f"{out}: {library.counts()}, {len(library.backgrounds)} backgrounds")


if __name__ == "__main__":
    main()
