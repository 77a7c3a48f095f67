"""The figures are PNG files with a row for each data set."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from napari_cellenhance.core.histograms import bin_edges, counted
from napari_cellenhance.core.strength_scores import StrengthCurve
from napari_cellenhance.io.score_figures import histograms_png, lines_png, strengths_png


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return image.size


def test_histograms_have_a_row_for_each_data_set(tmp_path: Path) -> None:
    edges = bin_edges(0.0, 1.0, is_integer=False, n_bins=32)
    rng = np.random.default_rng(0)
    here = {"raw": counted([rng.random(500)], edges), "dog": counted([rng.random(500) ** 3], edges)}
    histograms_png(tmp_path / "one.png", {"a": here})
    histograms_png(tmp_path / "two.png", {"a": here, "b": here})
    one, two = _size(tmp_path / "one.png"), _size(tmp_path / "two.png")
    assert one[0] == two[0] and two[1] == 2 * one[1]


def test_lines_leave_out_what_is_not_known(tmp_path: Path) -> None:
    values = {"raw": [0.5, math.nan], "nunet 5": [0.6, 0.4]}
    lines_png(tmp_path / "lines.png", {"a": {"F1": values, "AP": values}, "b": {"F1": values}}, ("clean", "noise"))
    assert min(_size(tmp_path / "lines.png")) > 300


def test_strengths_are_drawn_without_contrast_too(tmp_path: Path) -> None:
    full = StrengthCurve(strengths=(0, 1, 2), contrast=(1, 2, 3), greyness=(0.5, 0.4, 0.3), steps=(0.1, 0.1))
    bare = StrengthCurve(strengths=(0, 1, 2), contrast=(), greyness=(0.5, 0.4, 0.3), steps=(0.1, 0.1))
    strengths_png(tmp_path / "s.png", {"nunet": [full, bare], "other": [bare]})
    assert _size(tmp_path / "s.png")[0] > 900
    assert not list(tmp_path.glob(".*"))
