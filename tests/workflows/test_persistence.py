"""The persistence map of images whose objects last for a known part of the sweep."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError, TargetExistsError
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows import persistence, persistence_files
from napari_cellenhance.workflows.persistence import PersistenceRequest
from napari_cellenhance.workflows.requests import EnhanceRequest, SegmentOptions

# Gaussian smoothing is a filter whose effect is known: small discs fade as σ grows, large ones stay.
MANUAL = SegmentOptions(method="manual", threshold=0.5, split_touching=False, min_size_px=5)


def discs(shape: tuple[int, int] = (64, 96)) -> NDArray[np.float32]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape, np.float32)
    for cy, cx, radius in ((32, 24, 14), (32, 70, 4)):
        image[np.hypot(y - cy, x - cx) <= radius] = 1.0
    return image


def ask(image: Any, axes: str, **changes: Any) -> PersistenceRequest:
    request = EnhanceRequest(image=image, axes=axes, filter_id="gaussian", segment=MANUAL, **changes)
    return PersistenceRequest(enhance=request, weakest=0.5, strongest=8.0, n_strengths=6)


def test_large_objects_outlast_small_ones() -> None:
    found = persistence.run(ask(discs(), "YX"))
    large, small = found.labels[32, 24], found.labels[32, 70]
    assert found.image[32, 24] == 1.0 and 0 < found.image[32, 70] < 0.7
    assert found.image[0, 0] == 0 and found.image.dtype == np.float32
    assert (found.n_objects, found.n_lasting, found.n_late) == (2, 1, 0)
    assert np.isnan(found.table["lost_at"][large - 1]) and found.table["lost_at"][small - 1] > 0.5
    np.testing.assert_allclose([found.table["y"][small - 1], found.table["x"][small - 1]], [32, 70], atol=0.5)
    assert (
        found.sentence() == "Objects between strength 0.5 and 8: 2; lasting all the way: 1; only at higher strength: 0."
    )
    assert found.provenance["persistence_of_strengths"] == list(found.strengths)


def test_planes_are_numbered_on_and_windows_keep_their_place() -> None:
    image = np.stack([discs(), np.zeros((64, 96), np.float32), discs()[:, ::-1]])
    found = persistence.run(ask(image, "ZYX", region=Region(10, 60, 4, 96)))
    assert found.labels.shape == (3, 50, 92)
    assert found.table["label"].tolist() == [1, 2, 3, 4]
    assert found.table["z"].tolist() == [0, 0, 2, 2]
    assert set(np.unique(found.labels)) == {0, 1, 2, 3, 4}
    assert not found.image[1].any()
    large = found.labels[0, 32 - 10, 24 - 4] - 1
    np.testing.assert_allclose([found.table["y"][large], found.table["x"][large]], [32, 24], atol=0.5)


def test_tiles_do_not_show() -> None:
    whole, tiled = (persistence.run(ask(discs(), "YX", tile_px=tile)) for tile in (None, 24))
    np.testing.assert_array_equal(whole.image, tiled.image)


def test_the_network_is_encoded_once_for_all_strengths(
    seeded_model: str, stack: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellenhance.core.recipes.nunet_enhancer import NUNetEnhancer

    n_encoded = 0
    original = NUNetEnhancer.encode

    def counting(self: Any, *args: Any) -> Any:
        nonlocal n_encoded
        n_encoded += 1
        return original(self, *args)

    monkeypatch.setattr(NUNetEnhancer, "encode", counting)
    request = EnhanceRequest(image=stack(48, 64), axes="YX", filter_id=seeded_model, device="cpu")
    found = persistence.run(PersistenceRequest(enhance=request, n_strengths=5))
    assert n_encoded == 1
    assert found.strengths == (1.0, 3.25, 5.5, 7.75, 10.0)
    late = found.table["is_late"]
    assert set(np.unique(found.late)) - {0} <= set(found.table["label"][late])


def test_flat_and_cancelled_images_give_empty_maps() -> None:
    flat = persistence.run(ask(np.ones((32, 32), np.float32), "YX"))
    assert flat.is_complete and flat.n_objects == 0 and not flat.image.any()
    stopped = persistence.run(ask(discs(), "YX"), is_cancelled=lambda: True)
    assert not stopped.is_complete and stopped.n_objects == 0 and not stopped.labels.any()


@pytest.mark.parametrize("ends", [(8.0, 2.0), (0.0, 5.0), (1.0, 99.0), (3.0, 3.0)])
def test_a_sweep_stays_on_the_slider(ends: tuple[float, float]) -> None:
    request = EnhanceRequest(image=discs(), axes="YX", filter_id="gaussian")
    with pytest.raises(ParameterError, match="expected to go up"):
        persistence.run(PersistenceRequest(enhance=request, weakest=ends[0], strongest=ends[1]))
    with pytest.raises(ParameterError, match="2 to 200"):
        PersistenceRequest(enhance=request, n_strengths=1)


def test_files_hold_map_objects_and_table(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", discs())
    request = persistence_files.PersistenceFileRequest(
        source=tmp_path / "a.tif", target=tmp_path / "map.ome.tif", labels=tmp_path / "objects.ome.tif",
        table=tmp_path / "objects.csv", settings=ask(None, "").enhance, weakest=0.5, strongest=8.0, n_strengths=6,
    )  # fmt: skip
    found = persistence_files.run(request)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "map.ome.tif"), found.image)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "objects.ome.tif"), found.labels)
    with open(tmp_path / "objects.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["label"] for row in rows] == ["1", "2"]
    assert {"persistence", "born_at", "lost_at", "merged_at", "area_px", "is_late", "y", "x"} <= rows[0].keys()
    with pytest.raises(TargetExistsError):
        persistence_files.run(request)
