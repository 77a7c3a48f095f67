"""The answer while painting: learned anew only where the paint changed, on stacks too, with the bundled network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows.instant import InstantSession
from napari_cellenhance.workflows.live_paint import LivePaint, Shown
from napari_cellenhance.workflows.painted_layers import PaintedLayer

WHOLE = Region(0, 96, 0, 112)


class Counting(InstantSession):
    """Tells how often it learned and how often it only looked."""

    n_updates = n_predictions = 0

    def update(self, *args: Any, **kwargs: Any) -> Any:
        self.n_updates += 1
        return super().update(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        self.n_predictions += 1
        return super().predict(*args, **kwargs)


@pytest.fixture
def labels(cells: Any) -> Any:
    """A stroke through the two largest discs, and one over the ground."""
    painted = np.zeros(cells.labels.shape, np.uint16)
    for y, x in ((58, 30), (60, 70)):
        painted[y - 1 : y + 2, x - 5 : x + 6] = 2
    painted[40:43, 10:100] = np.where(cells.labels[40:43, 10:100] == 0, 1, 0)
    return painted


def layer(image: Any, labels: Any, axes: str = "YX", **options: Any) -> PaintedLayer:
    return PaintedLayer(name="cells", image=image, axes=axes, labels=labels, **options)


def test_strokes_are_enough_to_find_the_cells_and_only_new_ones_are_learned(cells: Any, labels: Any) -> None:
    session = Counting("cpu")
    live, painted = LivePaint(session), layer(cells.image, labels)
    answer = live.answer([painted], Shown(layer=0, t=0, z=0, region=WHOLE))
    found, wanted = answer.labels == 2, cells.labels > 0
    assert (found & wanted).sum() / (found | wanted).sum() > 0.8
    assert (session.n_updates, session.n_predictions) == (1, 0) and answer.seconds > 0
    part = Region(10, 50, 20, 80)
    again = live.answer([painted], Shown(layer=0, t=0, z=0, region=part))
    assert np.array_equal(again.labels, answer.labels[10:50, 20:80])
    assert (session.n_updates, session.n_predictions) == (1, 1)
    labels[80:83, 10:40] = 3
    third = live.answer([painted], Shown(layer=0, t=0, z=0, region=WHOLE))
    assert session.n_updates == 2 and 3 in third.labels
    live.forget()
    live.answer([painted], Shown(layer=0, t=0, z=0, region=part))
    assert session.n_updates == 3


def test_a_plane_without_paint_is_answered_too(cells: Any, labels: Any) -> None:
    stack = np.stack([cells.image, cells.image[::-1]])
    painted = layer(stack, np.stack([labels, 0 * labels]), "ZYX")
    live = LivePaint(InstantSession("cpu"))
    answer = live.answer([painted], Shown(layer=0, t=0, z=1, region=WHOLE))
    wanted = cells.labels[::-1] > 0
    assert ((answer.labels == 2) & wanted).sum() / ((answer.labels == 2) | wanted).sum() > 0.8


def test_what_is_missing_is_a_sentence_before_anything_is_loaded(cells: Any, labels: Any) -> None:
    session = Counting("cpu")
    live, shown = LivePaint(session), Shown(layer=0, t=0, z=0, region=WHOLE)
    with pytest.raises(ImageError, match="nothing is painted"):
        live.answer([layer(cells.image, 0 * labels)], shown)
    with pytest.raises(ImageError, match="only label 2"):
        live.answer([layer(cells.image, np.where(labels == 2, 2, 0))], shown)
    with pytest.raises(ImageError, match="one single grey value"):
        live.answer([layer(np.ones_like(cells.image), labels)], shown)
    assert not session.n_updates


def test_sure_pixels_are_added_to_the_strokes(cells: Any, labels: Any) -> None:
    stack = np.stack([cells.image, cells.image[::-1]])
    painted = layer(stack, np.stack([labels, 0 * labels]), "ZYX")
    (more,) = LivePaint(InstantSession("cpu")).sure([painted])
    assert more.axes == "YX" and np.array_equal(more.image, cells.image)
    assert np.array_equal(more.labels[labels > 0], labels[labels > 0])
    assert (more.labels > 0).sum() > 2 * (labels > 0).sum()
    is_sure = more.labels > 0
    assert ((more.labels == 2) == (cells.labels > 0))[is_sure].mean() > 0.95


def test_without_paint_the_window_is_looked_at_ahead(cells: Any, labels: Any) -> None:
    session = Counting("cpu")
    live, shown = LivePaint(session), Shown(layer=0, t=0, z=0, region=WHOLE)
    with pytest.raises(ImageError, match="nothing is painted yet"):
        live.answer([layer(cells.image, np.zeros_like(labels))], shown)
    assert session.n_bytes > 0 and session.n_updates == 0
    before = session.n_bytes
    live.answer([layer(cells.image, labels)], shown)
    assert session.n_bytes == before, "the same features serve the first stroke"
