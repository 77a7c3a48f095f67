"""What a semantic filter keeps and removes, on whole test images of dsb2018, as a picture.

Of the fluorescence images of 256×256 px those are shown in which the filter removes most, and every now and then one.

Usage: python training/semantic_picture.py DATA_ROOT CARD.json OUT.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import tifffile
from matplotlib.figure import Figure

from napari_cellenhance import separate

N_SHOWN, N_READ = 5, 60


def main() -> None:
    root, card, out = Path(sys.argv[1]) / "dsb2018", sys.argv[2], sys.argv[3]
    rows = json.loads((root / "index.json").read_text(encoding="utf-8"))
    rows = [r for r in rows if (r["type"], r["split"], r["shape"][:2]) == ("fluo", "test", [256, 256])][:N_READ]
    shown = []
    for row in rows:
        image = tifffile.TiffFile(root / row["images"]).pages[row["page"]].asarray()
        image = (image if image.ndim == 2 else image[..., 0]).astype(np.float32)
        kept = separate(image, card, device="cpu")[0]
        shown.append((float(np.abs(image - kept).mean() / np.ptp(image)), row["page"], image, kept))
    shown.sort(key=lambda one: -one[0])
    chosen = [shown[i] for i in np.linspace(0, len(shown) // 2, N_SHOWN).astype(int)]
    figure = Figure(figsize=(3 * N_SHOWN, 9), layout="constrained")
    axes = figure.subplots(3, N_SHOWN)
    for column, (_, page, image, kept) in zip(axes.T, chosen, strict=True):
        low, high = np.percentile(image, (1, 99.7))
        ends = {"vmin": low, "vmax": high, "cmap": "gray"}
        for ax, pixels, title in zip(
            column, (image, kept, image - kept + low), (f"test image {page}", "kept", "removed"), strict=True
        ):
            ax.imshow(pixels, **ends)
            ax.set_title(title, fontsize=9)
            ax.set_axis_off()
    figure.savefig(out, dpi=70)


if __name__ == "__main__":
    main()
