"""JSON records and before/after pictures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_cellenhance.core.errors import ImageError, TargetExistsError
from napari_cellenhance.io.json_ready import json_ready
from napari_cellenhance.io.reports import before_after_png, write_json


def test_json_of_a_run(tmp_path: Path) -> None:
    data = {
        "psnr": np.float32(2.5),
        "n": np.int64(3),
        "ok": np.bool_(True),
        "bad": [float("nan"), np.inf, -np.inf],
        "shape": (2, 3),
        "table": np.eye(2),
        "path": Path("a/b"),
        1: None,
        "name": "µ",
    }
    path = write_json(tmp_path / "r.json", data)
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "psnr": 2.5,
        "n": 3,
        "ok": True,
        "bad": [None, None, None],
        "shape": [2, 3],
        "table": [[1.0, 0.0], [0.0, 1.0]],
        "path": str(Path("a/b")),
        "1": None,
        "name": "µ",
    }
    with pytest.raises(TargetExistsError):
        write_json(path, {}, overwrite=False)


def test_what_json_cannot_hold_keeps_the_old_file(tmp_path: Path) -> None:
    path = write_json(tmp_path / "r.json", {"a": 1})
    with pytest.raises(TypeError, match="object cannot be stored as JSON"):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_json_ready_copies() -> None:
    inner = [1]
    copied = json_ready({"a": inner})
    copied["a"].append(2)
    assert inner == [1]


@pytest.mark.parametrize("shape", [(40, 60), (60, 40, 3), (3000, 20)])
def test_before_and_after_are_side_by_side(tmp_path: Path, shape: tuple[int, ...]) -> None:
    dark, bright = np.zeros(shape, np.uint16), np.zeros(shape, np.float32)
    bright.flat[: bright.size // 2 + 1] = 7.0
    path = before_after_png(tmp_path / "ba.png", dark, bright, ("raw", "NU-Net, strength 8"))
    with Image.open(path) as picture:
        shown = np.asarray(picture.convert("L"))
    assert shown.shape[1] == 1200
    left, right = shown[:, :600], shown[:, 600:]
    assert (left == 0).mean() > 0.001, "the dark plane is black"
    assert (left == 0).sum() > (right == 0).sum(), "half of the other plane is not"
    assert "matplotlib.pyplot" not in sys.modules or sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_nan_and_flat_planes_are_drawn(tmp_path: Path) -> None:
    for shape in ((1, 1), (10, 10), (2, 300)):
        path = before_after_png(tmp_path / "a.png", np.full(shape, np.nan), np.ones(shape))
        with Image.open(path) as picture:
            assert picture.size[0] == 1200


def test_planes_of_different_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"\(4, 5\) and \(5, 4\)"):
        before_after_png(tmp_path / "a.png", np.zeros((4, 5)), np.zeros((5, 4)))
    assert list(tmp_path.iterdir()) == []
