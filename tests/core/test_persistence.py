"""Objects followed through a sweep that was made up, so that every answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.persistence import ObjectTable, follow

STRENGTHS = (1.0, 2.0, 3.0, 4.0)


def picture(*boxes: tuple[int, int, int, int]) -> NDArray[np.uint32]:
    """Boxes (y, x, height, width), numbered in an order that means nothing."""
    labels = np.zeros((40, 60), np.uint32)
    for number, (y, x, h, w) in enumerate(reversed(boxes), start=1):
        labels[y : y + h, x : x + w] = number
    return labels


STAYS, FADES, LATE = (2, 2, 8, 8), (2, 20, 6, 6), (20, 40, 6, 6)


def test_persistence_is_the_share_of_the_sweep() -> None:
    found = follow([picture(STAYS, FADES), picture(STAYS, FADES), picture(STAYS), picture(STAYS, LATE)], STRENGTHS)
    rows = {(int(y), int(x)): int(found.labels[y, x]) - 1 for y, x in ((3, 3), (3, 21), (21, 41))}
    table = found.table
    stays, fades, late = rows[3, 3], rows[3, 21], rows[21, 41]
    assert table.persistence[[stays, fades, late]].tolist() == [1.0, 0.5, 0.25]
    assert table.born_at[[stays, fades, late]].tolist() == [1.0, 1.0, 4.0]
    assert np.isnan(table.lost_at[[stays, late]]).all() and table.lost_at[fades] == 3.0
    assert table.is_late[[stays, fades, late]].tolist() == [False, False, True]
    assert table.area_px[[stays, fades, late]].tolist() == [64, 36, 36]
    assert len(table.label) == found.labels.max() == 3
    image = found.image()
    assert image.dtype == np.float32 and image[0, 0] == 0 and image[3, 3] == 1.0 and image[3, 21] == 0.5


def test_growing_shrinking_to_a_half_and_breaking_up_end_no_object() -> None:
    grown, half, broken = (0, 0, 12, 12), (2, 2, 8, 4), ((2, 2, 8, 3), (2, 6, 8, 4))
    found = follow([picture(STAYS), picture(grown), picture(half), picture(*broken)], STRENGTHS)
    assert found.table.persistence.tolist() == [1.0]
    gone = follow([picture(STAYS), picture((2, 2, 8, 3))], (1.0, 2.0))
    assert gone.table.lost_at[0] == 2.0


def test_a_gap_is_bridged() -> None:
    found = follow([picture(STAYS), picture(), picture(STAYS), picture()], STRENGTHS)
    assert found.table.persistence.tolist() == [0.75]
    assert found.table.lost_at.tolist() == [4.0]


def test_flowing_together_is_told_and_makes_nothing_new() -> None:
    left, right, both = (2, 2, 8, 8), (2, 11, 8, 8), (2, 2, 8, 17)
    found = follow([picture(left, right), picture(left, right), picture(both), picture(both)], STRENGTHS)
    assert found.table.merged_at.tolist() == [3.0, 3.0]
    assert found.table.persistence.tolist() == [1.0, 1.0]


def test_nothing_found_makes_an_empty_table() -> None:
    found = follow([picture(), picture()], (1.0, 2.0))
    assert len(found.table.label) == 0
    assert not found.image().any()


def test_tables_of_planes_are_numbered_on() -> None:
    one, two = (follow([picture(STAYS, FADES)], [1.0]).table for _ in range(2))
    joined = ObjectTable.joined([one, two])
    assert joined.label.tolist() == [1, 2, 3, 4]
    assert joined.area_px.tolist() == [*one.area_px.tolist(), *two.area_px.tolist()]


@pytest.mark.parametrize("strengths", [(), (1.0,), (2.0, 1.0), (1.0, 1.0)])
def test_strengths_that_do_not_rise_are_refused(strengths: tuple[float, ...]) -> None:
    with pytest.raises(ParameterError, match="expected an increasing one for each"):
        follow([picture(), picture()], strengths)
