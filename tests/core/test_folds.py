"""Cross-validation: every image is tested once, nothing is on two sides, groups stay together."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.folds import k_folds


@settings(deadline=None, max_examples=60)
@given(
    groups=st.lists(st.integers(0, 8), min_size=6, max_size=60).filter(lambda names: len(set(names)) >= 5),
    n_folds=st.integers(2, 5),
    fraction=st.floats(0.05, 0.5),
    seed=st.integers(0, 99),
)
def test_images_are_split_and_groups_are_not(groups: list[int], n_folds: int, fraction: float, seed: int) -> None:
    folds = k_folds(len(groups), n_folds, groups=groups, validation_fraction=fraction, seed=seed)
    assert len(folds) == n_folds
    assert Counter(i for fold in folds for i in fold.test) == Counter(range(len(groups))), "each tested once"
    for fold in folds:
        sides = [fold.train, fold.validation, fold.test]
        assert all(sides) and sorted(i for side in sides for i in side) == list(range(len(groups)))
        names = [{groups[i] for i in side} for side in sides]
        assert not (names[0] & names[1] or names[0] & names[2] or names[1] & names[2])


def test_folds_are_about_equal_and_so_is_validation() -> None:
    for fold in k_folds(120, 3, validation_fraction=0.2):
        assert (len(fold.test), len(fold.validation), len(fold.train)) == (40, 16, 64)


def test_two_folds_have_two_groups_each_to_train_and_to_validate() -> None:
    for fold in k_folds(8, 2, groups=[0] * 5 + [1, 2, 3]):
        assert fold.train and fold.validation and fold.test
    assert sorted(len(fold.test) for fold in k_folds(8, 2, groups=[0] * 5 + [1, 2, 3])) == [2, 6]


def test_groups_of_unequal_size_are_balanced() -> None:
    groups = [0] * 10 + [1] * 5 + [2] * 5 + [3] * 4 + [4] * 6
    sizes = [len(fold.test) for fold in k_folds(30, 3, groups=groups)]
    assert sorted(sizes) == [9, 10, 11] or max(sizes) - min(sizes) <= 2


def test_the_seed_decides() -> None:
    assert k_folds(30, 3, seed=1) == k_folds(30, 3, seed=1)
    assert k_folds(30, 3, seed=1) != k_folds(30, 3, seed=2)
    assert [fold.test for fold in k_folds(30, 3)] != [tuple(range(10)), tuple(range(10, 20)), tuple(range(20, 30))]


def test_too_little_is_refused() -> None:
    with pytest.raises(ParameterError, match="2 independent images"):
        k_folds(8, 2, groups=["a"] * 4 + ["b"] * 4)
    with pytest.raises(ParameterError, match="4 independent images cannot make 5"):
        k_folds(4, 5)
    with pytest.raises(ParameterError, match="2 folds"):
        k_folds(4, 1)
    with pytest.raises(ParameterError, match="share"):
        k_folds(9, 3, validation_fraction=0.0)
    with pytest.raises(ParameterError, match="groups"):
        k_folds(9, 3, groups=[1, 2])
