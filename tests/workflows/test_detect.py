"""Blobs before and after: points, scores, the sweep, diameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.workflows.detect import DetectRequest, TruePoints, detect, find_candidates, sweep, to_rows
from napari_cellenhance.workflows.diameter import measure_diameter, suggest_diameter
from napari_cellenhance.workflows.measure import MeasuredImage


def image(name: str, pixels: Any, axes: str = "YX", **more: Any) -> MeasuredImage:
    return MeasuredImage(name=name, image=pixels, axes=axes, **more)


@pytest.fixture
def noisy(cells: Any, rng: np.random.Generator) -> np.ndarray:
    return cells.image + rng.normal(0, 350, cells.image.shape)


@pytest.fixture
def request_(cells: Any, noisy: np.ndarray) -> DetectRequest:
    return DetectRequest(
        images=(image("noisy", noisy), image("clean", cells.image)),
        diameter_px=15.0,
        truth=TruePoints(name="annotated", points=cells.centres),
    )


def test_every_cell_is_found_and_scored(request_: DetectRequest, cells: Any) -> None:
    clean = detect(find_candidates(request_), 0.3).detections[1]
    assert clean.f1 == clean.precision == clean.recall == 1.0
    assert clean.counts == (len(cells.centres), 0, 0)
    assert clean.is_true is not None and clean.is_true.all()
    assert (clean.responses >= 0.3).all()
    nearest = np.linalg.norm(clean.points[:, None] - cells.centres[None], axis=-1)
    assert nearest.min(axis=1).max() < 2.0
    np.testing.assert_allclose(clean.radii_px, cells.radii_px[nearest.argmin(axis=1)], rtol=0.3)


def test_missed_and_false_points_are_told_apart(request_: DetectRequest, cells: Any) -> None:
    low = detect(find_candidates(request_), 0.011).detections[0]
    assert low.counts[1] > 5, "noise"
    assert low.precision < 0.6
    high = detect(find_candidates(request_), 0.9).detections[0]
    assert len(high.points) == 0
    assert high.missed.tolist() == cells.centres.tolist()
    assert high.recall == high.f1 == 0.0


def test_the_sweep_gives_each_image_its_own_best_threshold(request_: DetectRequest) -> None:
    result = sweep(request_)
    for position, curve in enumerate(result.sweeps):
        found = detect(result.candidates, result.best_thresholds).detections[position]
        assert found.threshold == curve.best_threshold
        assert found.f1 == pytest.approx(curve.best_f1)
        for threshold, f1 in zip(curve.thresholds[::16], curve.f1[::16], strict=True):
            assert detect(result.candidates, float(threshold)).detections[position].f1 == pytest.approx(f1)
    assert result.sweeps[1].best_f1 == 1.0
    assert result.sweeps[0].f1.max() == result.sweeps[0].best_f1


def test_labels_stand_for_their_centres(request_: DetectRequest, cells: Any) -> None:
    by_points = sweep(request_)
    by_labels = sweep(DetectRequest(images=request_.images, diameter_px=15.0, truth=image("labels", cells.labels)))
    assert by_labels.sweeps[1].best_f1 == by_points.sweeps[1].best_f1 == 1.0


def test_points_of_a_stack_count_on_their_plane_only(cells: Any) -> None:
    stack = np.stack([cells.image, cells.image])
    truth = np.column_stack([np.zeros(len(cells.centres)), cells.centres])
    result = detect(
        find_candidates(
            DetectRequest(
                images=(image("stack", stack, "ZYX"),), diameter_px=15.0, truth=TruePoints(name="t", points=truth)
            )
        ),
        0.3,
    )
    (found,) = result.detections
    n = len(cells.centres)
    assert found.counts == (n, n, 0)
    assert found.points.shape == (2 * n, 3)
    assert found.is_true is not None
    assert set(found.points[found.is_true, 0]) == {0.0}


def test_only_the_plane_in_view(cells: Any) -> None:
    stack = np.stack([cells.image, np.zeros_like(cells.image), cells.image])
    truth = np.column_stack([np.full(len(cells.centres), 2), cells.centres])
    request = DetectRequest(
        images=(image("stack", stack, "TYX", at=(2, 0, 0)),), diameter_px=15.0,
        truth=TruePoints(name="t", points=np.concatenate([truth, [[0, 5, 5], [2, -7, 5]]])),
    )  # fmt: skip
    candidates = find_candidates(request)
    (found,) = detect(candidates, 0.3).detections
    assert found.f1 == 1.0
    assert set(found.points[:, 0]) == {2.0}
    assert "2 annotated points lie on other planes or outside" in candidates.notes[0]


def test_without_annotated_points_there_are_blobs_but_no_score(cells: Any) -> None:
    (found,) = detect(
        find_candidates(DetectRequest(images=(image("c", cells.image),), diameter_px=15.0)), 0.3
    ).detections
    assert len(found.points) == len(cells.centres)
    assert found.is_true is None and np.isnan(found.f1)
    (row,) = to_rows([found])
    assert row["true_positives"] is None
    with pytest.raises(ParameterError, match="annotated points"):
        sweep(DetectRequest(images=(image("c", cells.image),), diameter_px=15.0))


def test_dark_objects_are_found_where_it_is_said(cells: Any) -> None:
    inverted = cells.image.max() - cells.image
    for is_dark, n in ((True, len(cells.centres)), (False, 0)):
        request = DetectRequest(
            images=(image("dark", inverted, objects_are_dark=is_dark),), diameter_px=15.0,
            truth=TruePoints(name="t", points=cells.centres),
        )  # fmt: skip
        assert detect(find_candidates(request), 0.3).detections[0].counts[0] == n


def test_a_match_lies_within_half_the_diameter_unless_said_otherwise(cells: Any) -> None:
    away = TruePoints(name="t", points=cells.centres + np.array([0.0, 10.0]))
    for reach, n in ((None, 0), (12.0, len(cells.centres))):
        request = DetectRequest(
            images=(image("c", cells.image),), diameter_px=15.0, truth=away, match_radius_px=reach,
        )  # fmt: skip
        (found,) = detect(find_candidates(request), 0.3).detections
        assert found.counts[0] == n


def test_the_scale_of_grey_values_does_not_matter(cells: Any) -> None:
    """A raw camera image and the same in 0…1 answer alike."""
    as_float = ((cells.image - 300.0) * 17.0).astype(np.float64)
    request = DetectRequest(images=(image("a", cells.image), image("b", as_float)), diameter_px=15.0)
    a, b = detect(find_candidates(request), 0.2).detections
    np.testing.assert_allclose(a.responses, b.responses, atol=1e-4)


def test_sizes_and_counts_that_do_not_fit_are_refused(cells: Any) -> None:
    with pytest.raises(ParameterError, match="diameter is 0"):
        DetectRequest(images=(image("c", cells.image),), diameter_px=0.0)
    with pytest.raises(ParameterError, match="no image"):
        DetectRequest(images=(), diameter_px=5.0)
    with pytest.raises(ParameterError, match="match"):
        DetectRequest(images=(image("c", cells.image),), diameter_px=5.0, match_radius_px=0.0)
    with pytest.raises(ImageError, match="3 coordinates"):
        find_candidates(
            DetectRequest(
                images=(image("c", cells.image),), diameter_px=5.0,
                truth=TruePoints(name="t", points=np.zeros((1, 3))),
            )
        )  # fmt: skip
    with pytest.raises(ImageError, match="no annotated point"):
        sweep(
            DetectRequest(
                images=(image("c", cells.image),), diameter_px=5.0,
                truth=TruePoints(name="t", points=np.zeros((0, 2))),
            )
        )  # fmt: skip
    with pytest.raises(ImageError, match="whole numbers"):
        find_candidates(
            DetectRequest(
                images=(image("c", cells.image),), diameter_px=5.0, truth=image("l", cells.labels.astype(float))
            )
        )


def test_cancel_ends_a_sweep_between_planes(cells: Any) -> None:
    stack = np.stack([cells.image] * 4)
    truth = TruePoints(name="t", points=np.column_stack([np.zeros(len(cells.centres)), cells.centres]))
    n_asked = 0

    def is_cancelled() -> bool:
        nonlocal n_asked
        n_asked += 1
        return n_asked > 2

    result = sweep(
        DetectRequest(images=(image("s", stack, "ZYX"),), diameter_px=15.0, truth=truth), is_cancelled=is_cancelled
    )
    assert not result.is_complete
    assert result.sweeps == ()
    assert n_asked == 3


def test_progress_names_image_and_plane(request_: DetectRequest) -> None:
    seen: list[Any] = []
    sweep(request_, on_progress=seen.append)
    assert seen[0].message == "Looking for blobs in “noisy”"
    assert seen[1].n_done / seen[1].n_total == 0.5


# --- diameters ----------------------------------------------------------------------------


def test_the_diameter_is_measured_from_labels(cells: Any) -> None:
    expected = np.median(2 * cells.radii_px)
    assert measure_diameter(image("labels", cells.labels)) == pytest.approx(expected, rel=0.05)
    with pytest.raises(ImageError, match="no object"):
        measure_diameter(image("labels", np.zeros((5, 5), int)))


def test_an_object_of_a_volume_is_measured_plane_by_plane(cells: Any) -> None:
    stack = np.stack([cells.labels] * 7)
    assert measure_diameter(image("labels", stack, "ZYX")) == pytest.approx(
        measure_diameter(image("labels", cells.labels))
    )


def test_the_diameter_is_suggested_by_the_image(cells: Any) -> None:
    assert 9 < suggest_diameter(image("cells", cells.image)) < 24
