"""Predicted but not annotated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.candidates import unannotated
from napari_cellenhance.core.errors import ImageError, ParameterError

PREDICTED = np.zeros((20, 30), np.uint32)
PREDICTED[2:6, 2:6] = 3  # 16 px
PREDICTED[10:16, 4:10] = 8  # 36 px
PREDICTED[10:12, 20:25] = 5  # 10 px
IMAGE = np.where(PREDICTED == 8, 0.2, np.where(PREDICTED == 3, 0.9, 0.5)) * (PREDICTED > 0)


def labels_of(*given: Any, **more: Any) -> list[int]:
    return [one.label for one in unannotated(PREDICTED, *given, **more)]


def test_a_point_on_an_object_annotates_it() -> None:
    assert labels_of([(3, 3), (18, 28), (-4, 900)], IMAGE) == [5, 8]


def test_labels_on_an_object_annotate_it() -> None:
    annotated = np.zeros(PREDICTED.shape, int)
    annotated[2:6, 2:4] = 1  # half of 3
    annotated[10, 4:7] = 1  # 3 of 36 px: a slip
    assert labels_of(annotated, IMAGE) == [5, 8]
    assert labels_of(annotated, IMAGE, max_overlap=0.6) == [3, 5, 8]
    assert labels_of(annotated, IMAGE, max_overlap=0) == [5]


def test_the_order() -> None:
    assert labels_of([], IMAGE) == [3, 5, 8]
    assert labels_of([]) == labels_of([], IMAGE, order="area") == [8, 3, 5]
    assert labels_of([], order="place") == [3, 5, 8]


def test_what_is_told_of_a_candidate() -> None:
    first = unannotated(PREDICTED, [], IMAGE)[0]
    assert (first.label, first.centroid, first.area_px) == (3, (3.5, 3.5), 16)
    assert first.response == pytest.approx(0.9)
    assert np.isnan(unannotated(PREDICTED, [])[0].response)


def test_nothing_predicted() -> None:
    assert unannotated(np.zeros((4, 4), int), []) == ()


def test_what_does_not_fit() -> None:
    with pytest.raises(ImageError, match="expected labels of shape"):
        labels_of(np.zeros((3, 3), int))
    with pytest.raises(ImageError, match="one plane"):
        labels_of([], np.zeros((3, 3)))
    with pytest.raises(ParameterError, match="response, area, place"):
        labels_of([], order="name")
    with pytest.raises(ParameterError, match="0…1"):
        labels_of([], max_overlap=2)
