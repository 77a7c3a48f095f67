"""Loss curves as a figure."""

from __future__ import annotations

from pathlib import Path

from napari_cellenhance.io.curves import loss_curves_png


def test_the_figure_is_a_png_and_grows_with_the_losses(tmp_path: Path) -> None:
    rows = [{"step": float(i), "learning_rate": 1e-3, "total": 1.0 / (i + 1)} for i in range(5)]
    rows[-1] |= {"val_total": 0.3, "val_otsu_iou_w10": 0.5}
    loss_curves_png(tmp_path / "a.png", rows)
    from skimage.io import imread

    one = imread(tmp_path / "a.png")
    loss_curves_png(tmp_path / "b.png", [{**r, "content": 1.0} for r in rows])
    two = imread(tmp_path / "b.png")
    assert one.shape[0] == two.shape[0] and two.shape[1] > one.shape[1]
    assert one[..., :3].std() > 5


def test_a_loss_may_be_missing_from_some_updates(tmp_path: Path) -> None:
    rows = [{"step": float(i), "total": 1.0 + i} for i in range(5)]
    rows[2]["paired"] = 0.5
    loss_curves_png(tmp_path / "a.png", rows)
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_before_the_first_update_the_figure_is_empty(tmp_path: Path) -> None:
    loss_curves_png(tmp_path / "a.png", [])
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
