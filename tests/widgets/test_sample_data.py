"""The bundled images: real, small, documented."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_cellenhance import _sample_data
from napari_cellenhance._sample_data import histology, ht29, nuclei, sample_path

SAMPLES = {"nuclei": (nuclei, "YX"), "histology": (histology, "YXS"), "ht29": (ht29, "CYX")}


@pytest.mark.parametrize("key", SAMPLES)
def test_sample_opens_as_one_labelled_layer(key: str) -> None:
    function, axes = SAMPLES[key]
    ((data, kwargs, kind),) = function()
    viewer = ViewerModel()
    layer: Any = getattr(viewer, f"add_{kind}")(data, **kwargs)
    assert data.ndim == len(axes)
    assert bool(layer.rgb) == ("S" in axes)
    assert "".join(label[0] for label in layer.axis_labels).upper() == axes.replace("S", "")
    assert np.asarray(data).std() > 1


@pytest.mark.parametrize("key", SAMPLES)
def test_sample_is_small_and_its_origin_is_told(key: str) -> None:
    path = sample_path(key)
    assert path.stat().st_size < 400_000
    readme = (path.parent / "README.md").read_text(encoding="utf-8")
    assert path.name in readme
    assert "CC0" in readme


def test_unknown_sample_is_refused() -> None:
    with pytest.raises(LookupError, match="no sample"):
        sample_path("../secret")


def test_all_samples_are_offered() -> None:
    assert set(_sample_data.__all__) == {*SAMPLES, "sample_path"}
