"""Faults of the list in docs/faults.md that belong to no other file."""

from __future__ import annotations

import numpy as np

from napari_cellenhance.workflows import enhance
from napari_cellenhance.workflows.requests import EnhanceRequest


def test_a_strip_of_70000_pixels() -> None:
    strip = np.random.default_rng(0).random((3, 70_000), np.float32)
    whole, tiled = (
        enhance.run(EnhanceRequest(image=strip, axes="YX", filter_id="gaussian", strength=2.0, tile_px=side))
        for side in (None, 4096)
    )
    assert tiled.n_total > 10
    assert tiled.image.shape == strip.shape and np.isfinite(tiled.image).all()
    np.testing.assert_allclose(tiled.image, whole.image, atol=1e-6)
