"""Draw lines through held-out images: truth, poor and restored image, with the uncertainty (E15).

Usage: python training/care_profiles.py PAIRS OUT.png [MODEL]

PAIRS is the folder that `cellenhance synthesize training/care-nuclei-test.json` makes; MODEL: care-nuclei unless told.
The clean image is brought to the grey values of the poor one by least squares, as in the training; 1 is its largest
grey value along the line. Correlations with the truth stand above each plot, and are printed.
"""

from __future__ import annotations

import sys

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from napari_cellenhance.core.affine_fit import PairMoments
from napari_cellenhance.core.line_profiles import profile
from napari_cellenhance.io.safe_write import atomic_path
from napari_cellenhance.workflows.care_pairs import LearningPair, read_pair_files
from napari_cellenhance.workflows.restore import OpenedRestorer, RestoreRequest, apply, open_restorer

PLANE = "plane_73_"
LEVELS = ("mild", "medium", "strong")
LINE = ((202.0, 10.0), (146.0, 245.0))
WIDTH_PX = 1
DPI = 110
Pixels = NDArray[np.float32]


def main() -> None:
    pairs, out = sys.argv[1:3]
    opened = open_restorer(sys.argv[3] if len(sys.argv) > 3 else "care-nuclei", "cpu", "float32")
    chosen = {level: one for one in read_pair_files(pairs) for level in LEVELS if f"{PLANE}{level}" in one.name}
    figure = Figure(figsize=(13.6, 2.5 * len(LEVELS)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(LEVELS), 4, width_ratios=(1, 1, 1, 3))
    for axes, level in zip(rows, LEVELS, strict=True):
        draw(axes, level, chosen[level], opened)
    rows[0][3].legend(fontsize=7, ncols=4, loc="upper right")
    rows[-1][3].set_xlabel("along the line, px", fontsize=8)
    with atomic_path(out) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def draw(axes: NDArray[np.object_], level: str, pair: LearningPair, opened: OpenedRestorer) -> None:
    """One row: three pictures and the profiles."""
    found = apply(RestoreRequest(image=pair.poor, axes="YX"), opened)
    assert found.uncertainty is not None
    moments = PairMoments()
    moments.add(pair.clean, pair.poor)
    truth = np.asarray(moments.slope * pair.clean + moments.offset, np.float32)
    planes = {"truth": truth, "poor": pair.poor, "restored": found.image, "σ": found.uncertainty}
    lines = {name: profile(plane, LINE, WIDTH_PX)[1] for name, plane in planes.items()}
    low, high = float(truth.min()), float(lines["truth"].max())
    white = float(np.percentile(truth, 99.9))
    (y0, x0), (y1, x1) = LINE
    for axis, name in zip(axes, ("poor", "restored", "truth"), strict=False):
        axis.imshow(planes[name], cmap="gray", vmin=low, vmax=white, interpolation="nearest")
        axis.plot((x0, x1), (y0, y1), color="#ffb000", lw=0.8)
        axis.set_title(name, fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0].set_ylabel(level, fontsize=9)
    span = high - low
    along = np.arange(len(lines["truth"]), dtype=float)
    of = {name: (values - (0.0 if name == "σ" else low)) / span for name, values in lines.items()}
    plot = axes[3]
    plot.plot(along, of["poor"], color="0.75", lw=0.8, label="poor")
    around = (of["restored"] - of["σ"], of["restored"] + of["σ"])
    plot.fill_between(along, *around, color="C0", alpha=0.3, lw=0, label="restored ± σ")
    plot.plot(along, of["restored"], color="C0", lw=1.2, label="restored")
    plot.plot(along, of["truth"], color="k", lw=1.0, label="truth")
    plot.set_xlim(along[0], along[-1])
    plot.tick_params(labelsize=7)
    like = {name: float(np.corrcoef(of["truth"], of[name])[0, 1]) for name in ("poor", "restored")}
    half = float((np.abs(of["restored"] - of["truth"]) <= np.log(2) * of["σ"]).mean())
    title = f"correlation with the truth: poor {like['poor']:.2f}, restored {like['restored']:.3f}"
    plot.set_title(f"{title}; within σ·ln 2: {half:.0%}", fontsize=8)
    print(f"{level}: {title}; within σ·ln 2: {half:.3f}")


if __name__ == "__main__":
    main()
