"""The public call: same pixels as the workflow, axes guessed, input untouched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_cellenhance
from napari_cellenhance import enhance
from napari_cellenhance.core.errors import AxesError, ModelNotFoundError, ParameterError
from napari_cellenhance.workflows import enhance as workflow
from napari_cellenhance.workflows.requests import EnhanceRequest

FILTER = "dog"


def test_same_pixels_as_the_workflow(cells: Any) -> None:
    before = cells.image.copy()
    image = enhance(cells.image, model=FILTER, strength=3.0)
    expected = workflow.run(EnhanceRequest(image=cells.image, axes="YX", filter_id=FILTER, strength=3.0)).image
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(cells.image, before)
    assert image.shape == cells.image.shape
    assert image.dtype == np.float32
    assert 0 <= image.min() < image.max() <= 1


def test_objects_come_out_brighter_than_the_ground(cells: Any) -> None:
    image = enhance(cells.image, model=FILTER)
    is_object = cells.labels > 0
    assert image[is_object].mean() > 3 * image[~is_object].mean()


def test_dark_objects_are_turned_over(cells: Any) -> None:
    turned = cells.image.max() - cells.image
    np.testing.assert_allclose(
        enhance(turned, model=FILTER, objects_are_dark=True), enhance(cells.image, model=FILTER), atol=1e-4
    )


def test_strength_zero_returns_the_input(cells: Any) -> None:
    image = enhance(cells.image, model=FILTER, strength=0)
    np.testing.assert_array_equal(image, cells.image)
    assert image.dtype == cells.image.dtype
    assert not np.shares_memory(image, cells.image)


@pytest.mark.parametrize(
    ("shape", "settings", "expected_axes", "expected_shape"),
    [
        ((40, 48), {}, "YX", (40, 48)),
        ((6, 40, 48), {}, "ZYX", (6, 40, 48)),
        ((40, 48, 3), {"is_rgb": True}, "YXS", (40, 48, 3)),
        ((40, 48, 3), {"is_rgb": True, "channels": "grey"}, "YXS", (40, 48)),
        ((3, 40, 48), {"axes": "cyx", "channels": 1}, "cyx", (40, 48)),
        ((3, 40, 48), {"axes": "CYX", "channels": [2, 0]}, "CYX", (2, 40, 48)),
    ],
)
def test_axes_are_guessed_or_taken(
    shape: tuple[int, ...],
    settings: dict[str, Any],
    expected_axes: str,
    expected_shape: tuple[int, ...],
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[EnhanceRequest] = []
    run = workflow.run

    def spy(request: EnhanceRequest) -> Any:
        seen.append(request)
        return run(request)

    monkeypatch.setattr(workflow, "run", spy)
    image = enhance(rng.integers(0, 255, shape).astype(np.uint8), model="gaussian", **settings)
    assert image.shape == expected_shape
    assert [request.axes for request in seen] == [expected_axes]


def test_every_setting_reaches_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[EnhanceRequest] = []

    def spy(request: EnhanceRequest) -> Any:
        seen.append(request)
        raise ParameterError("seen enough")

    monkeypatch.setattr(workflow, "run", spy)
    settings = {"strength": 2.5, "objects_are_dark": True, "statistics": "stack"}
    settings |= {"device": "cpu", "precision": "float32", "tile_px": 128}
    with pytest.raises(ParameterError, match="seen enough"):
        enhance(np.zeros((8, 8)), model="gamma", **settings)  # type: ignore[arg-type]
    assert {name: getattr(seen[0], name) for name in settings} == settings
    assert seen[0].filter_id == "gamma"


def test_nested_lists_are_an_image() -> None:
    ramp = np.arange(64.0).reshape(8, 8)
    np.testing.assert_array_equal(
        enhance(ramp.tolist(), model="percentile-stretch"), enhance(ramp, model="percentile-stretch")
    )


def test_what_the_workflow_remarks_becomes_a_warning() -> None:
    with pytest.warns(UserWarning, match="one single grey value"):
        image = enhance(np.full((16, 16), 7, np.uint8), model=FILTER)
    assert np.isfinite(image).all()


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"model": "no-such-filter"}, ModelNotFoundError, "percentile-stretch"),
        ({"axes": "ZYX"}, AxesError, "ZYX"),
        ({"axes": "YX", "is_rgb": True}, ParameterError, "YXS"),
        ({"channels": "red"}, ParameterError, "grey"),
        ({"strength": float("nan")}, ParameterError, "nan"),
    ],
)
def test_wrong_settings_are_told(settings: dict[str, Any], error: type[Exception], says: str) -> None:
    image = np.arange(64.0).reshape(8, 8)
    with pytest.raises(error, match=says):
        enhance(image, **{"model": FILTER, **settings})


def test_a_line_of_pixels_has_no_axes() -> None:
    with pytest.raises(AxesError, match="cannot be named"):
        enhance(np.arange(9.0), model=FILTER)


def test_the_root_offers_it_lazily() -> None:
    code = (
        "import sys, napari_cellenhance as package\n"
        "assert 'enhance' in dir(package) and package.__version__\n"
        "assert 'torch' not in sys.modules and 'napari_cellenhance.workflows' not in sys.modules\n"
        "assert callable(package.enhance) and 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'enhnace'"):
        napari_cellenhance.enhnace  # noqa: B018


def test_train_nunet_from_python_is_the_same_training(cells: Any, tmp_path: Path) -> None:
    from napari_cellenhance import train_nunet
    from napari_cellenhance.zoo.manifest import find_model

    settings = {"batch_size": 2, "crop_px": 32, "recipe_options": {"n_validation": 2, "diameters_px": (8.0, 14.0)}}
    model_id = train_nunet(
        [cells.image, cells.image[::-1]], tmp_path / "run", labels=[cells.labels, None], n_steps=1, model_id="taught",
        **settings,
    )  # fmt: skip
    card = find_model(model_id)
    assert card.training["perception"] == "none" and card.training["init_from"] == "nunet"
    with pytest.raises(ParameterError, match="needs a perceptual network"):
        train_nunet(cells.image, tmp_path / "other", n_steps=1, **settings)
    with pytest.raises(ParameterError, match="2 label images were given for 1"):
        train_nunet(cells.image, tmp_path / "other", labels=[cells.labels, cells.labels])
