"""Strength by region and strength from the image: the same in the run, the preview, files and Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.recipes.nunet_enhancer import NUNetEnhancer
from napari_cellenhance.core.tiling import Region
from napari_cellenhance.workflows import enhance, files, suggest
from napari_cellenhance.workflows.preview import PreviewRequest, PreviewSession
from napari_cellenhance.workflows.python_api import enhance as call
from napari_cellenhance.workflows.requests import EnhanceRequest, StrengthMap
from napari_cellenhance.workflows.strength_maps import map_axes

Stack = Callable[..., NDArray[np.uint16]]


@pytest.fixture
def ask(seeded_model: str) -> Callable[..., EnhanceRequest]:
    def make(image: Any, axes: str, **changes: Any) -> EnhanceRequest:
        return EnhanceRequest(
            image=image, axes=axes, **({"filter_id": seeded_model, "device": "cpu", "precision": "float32"} | changes)
        )

    return make


Ask = Callable[..., EnhanceRequest]


def regions(*shape: int) -> NDArray[np.uint8]:
    labels = np.zeros(shape, np.uint8)
    labels[..., : shape[-1] // 3] = 1
    labels[..., shape[-2] // 2 :, 2 * shape[-1] // 3 :] = 7
    return labels


def test_every_region_is_the_run_at_its_strength(ask: Ask, stack: Stack) -> None:
    image, labels = stack(48, 64), regions(48, 64)
    found = enhance.run(
        ask(image, "YX", strength=4.0, strength_map=StrengthMap(values=labels, label_strengths={1: 9.0, 7: 0.0}))
    )
    for where, strength in ((labels == 1, 9.0), (labels == 0, 4.0)):
        alone = enhance.run(ask(image, "YX", strength=strength)).image
        np.testing.assert_allclose(found.image[where], alone[where], atol=1e-5)
    normalised = enhance.run(ask(image, "YX", strength=1e-9)).image
    np.testing.assert_allclose(found.image[labels == 7], normalised[labels == 7], atol=1e-5)
    recipe = found.provenance
    assert recipe["strength"] == 4.0
    assert recipe["strength_map"]["label_strengths"] == {"1": 9.0, "7": 0.0}
    assert recipe["strength_map"]["step"] is None and len(recipe["strength_map"]["sha256"]) == 64


def test_tiles_preview_and_soft_edges_agree_with_the_run(ask: Ask, stack: Stack) -> None:
    image, values = stack(2, 64, 80), np.linspace(0, 10, 80, dtype=np.float32) * np.ones((64, 1), np.float32)
    window = Region(7, 50, 11, 70)
    request = ask(image, "ZYX", strength_map=StrengthMap(values=values, edge_px=4))
    run = enhance.run(request)
    tiled = enhance.run(dataclasses.replace(request, tile_px=24))
    np.testing.assert_allclose(tiled.image, run.image, atol=1 / 255)
    view = PreviewRequest(enhance=dataclasses.replace(request, region=window), position={"Z": 1})
    shown = PreviewSession().update(view)
    assert not shown.is_identity
    np.testing.assert_allclose(shown.image, run.image[1][window.slices], atol=1 / 255)
    assert run.provenance["strength_map"]["step"] == 0.25
    left, right = enhance.run(ask(image, "ZYX", strength=0.25)).image, enhance.run(ask(image, "ZYX", strength=10)).image
    np.testing.assert_allclose(run.image[..., 79], right[..., 79], atol=0.05)
    assert np.abs(run.image[..., 3] - left[..., 3]).max() < np.abs(run.image[..., 3] - right[..., 3]).max()


def test_a_map_costs_no_second_encoding(ask: Ask, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = dict.fromkeys(("calibrate_and_encode", "encode", "decode"), 0)
    for name in counted:
        original = getattr(NUNetEnhancer, name)

        def counting(self: Any, *args: Any, _name: str = name, _original: Any = original) -> Any:
            counted[_name] += 1
            return _original(self, *args)

        monkeypatch.setattr(NUNetEnhancer, name, counting)
    values = np.repeat([3.0, 5.0, 7.0], 16)[None].repeat(32, axis=0)
    enhance.run(ask(stack(32, 48), "YX", strength_map=StrengthMap(values=values)))
    assert counted == {"calibrate_and_encode": 1, "encode": 0, "decode": 3}
    session = PreviewSession()
    for strength in (2.0, 6.0):
        given = StrengthMap(values=regions(32, 48), label_strengths={1: 9.0})
        session.update(PreviewRequest(enhance=ask(stack(32, 48), "YX", strength=strength, strength_map=given)))
    assert counted["calibrate_and_encode"] + counted["encode"] == 2


def test_maps_follow_the_axes_of_the_image() -> None:
    assert map_axes((5, 6), (2, 3, 5, 6), "CZYX") == "YX"
    assert map_axes((3, 5, 6), (2, 3, 5, 6), "CZYX") == "ZYX"
    assert map_axes((2, 3, 5, 6), (2, 3, 5, 6), "CZYX") == "CZYX"
    assert map_axes((4, 5, 6), (4, 2, 5, 6), "TCYX") == "TYX"
    assert map_axes((6, 5), (6, 5), "XY") == "XY"
    assert map_axes((5, 6), (5, 6, 3), "YXS") == "YX"
    with pytest.raises(ParameterError, match="expected one plane of 5×6 px"):
        map_axes((6, 5), (2, 3, 5, 6), "CZYX")


@pytest.mark.parametrize("channels", ["all", "grey", (1,)])
def test_a_map_with_channels_lies_over_the_chosen_ones(ask: Ask, stack: Stack, channels: Any) -> None:
    image = stack(2, 32, 48)
    labels = np.zeros((2, 32, 48), np.int32)
    labels[1, :, :24] = 3
    given = StrengthMap(values=labels, label_strengths={3: 9.0})
    found = enhance.run(ask(image, "CYX", strength=4.0, channels=channels, strength_map=given)).image
    weak = enhance.run(ask(image, "CYX", strength=4.0, channels=channels)).image
    strong = enhance.run(ask(image, "CYX", strength=9.0, channels=channels)).image
    if channels == "all":
        np.testing.assert_allclose(found[0], weak[0], atol=1e-5)
        found, weak, strong = found[1], weak[1], strong[1]
    np.testing.assert_allclose(found[:, :24], strong[:, :24], atol=1e-5)
    np.testing.assert_allclose(found[:, 24:], weak[:, 24:], atol=1e-5)


def test_maps_that_do_not_fit_are_told(ask: Ask, stack: Stack) -> None:
    image = stack(32, 48)
    with pytest.raises(ParameterError, match="32×40, the image 32×48"):
        enhance.run(ask(image, "YX", strength_map=StrengthMap(values=np.zeros((32, 40)))))
    with pytest.raises(ParameterError, match="holds values from 0 to 200"):
        enhance.run(ask(image, "YX", strength_map=StrengthMap(values=200.0 * np.eye(32, 48))))
    with pytest.raises(ParameterError, match="complex"):
        enhance.run(ask(image, "YX", strength_map=StrengthMap(values=np.zeros((32, 48), complex))))


def test_auto_takes_what_is_suggested_and_says_so(ask: Ask, stack: Stack) -> None:
    image = stack(3, 48, 64)
    wanted = suggest.suggest(ask(image, "ZYX"))
    assert len(wanted.scores) == len(wanted.strengths) == suggest.N_STRENGTHS
    found = enhance.run(ask(image, "ZYX", strength="auto"))
    assert found.provenance["strength"] == wanted.strength
    assert found.provenance["strength_suggested"]["reason"] == wanted.reason
    np.testing.assert_array_equal(found.image, enhance.run(ask(image, "ZYX", strength=wanted.strength)).image)
    assert enhance.run(ask(image, "ZYX", strength=5.0)).provenance["strength_suggested"] is None


def test_auto_is_for_networks_and_can_be_cancelled(ask: Ask, stack: Stack) -> None:
    with pytest.raises(ParameterError, match="networks only"):
        enhance.run(ask(stack(32, 48), "YX", filter_id="gaussian", strength="auto"))
    with pytest.raises(ParameterError, match="expected a number, auto"):
        enhance.run(ask(stack(32, 48), "YX", strength="much"))
    stopped = enhance.run(ask(stack(32, 48), "YX", strength="auto"), is_cancelled=lambda: True)
    assert not stopped.is_complete and not stopped.image.any()


def test_the_view_suggests_from_features_that_are_there(
    ask: Ask, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, view = PreviewSession(), PreviewRequest(enhance=ask(stack(48, 64), "YX"))
    session.update(view)

    def refuse(*_: Any) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(NUNetEnhancer, "encode", refuse)
    monkeypatch.setattr(NUNetEnhancer, "calibrate_and_encode", refuse)
    found = suggest.suggest_on_view(session, view)
    assert found.strength in found.strengths


def test_files_and_python_take_maps_too(ask: Ask, stack: Stack, seeded_model: str, tmp_path: Path) -> None:
    image, labels = stack(32, 48), regions(32, 48)
    tifffile.imwrite(tmp_path / "a.tif", image)
    (tmp_path / "maps").mkdir()
    tifffile.imwrite(tmp_path / "maps" / "a.tif", labels)
    wanted = call(
        image, model=seeded_model, strength=3.0, strength_map=labels, label_strengths={1: 8.0}, device="cpu",
        precision="float32",
    )  # fmt: skip
    for number, where in enumerate((tmp_path / "maps", tmp_path / "maps" / "a.tif")):
        out = tmp_path / f"out{number}.tif"
        done = files.run(
            files.FilesRequest(
                source=tmp_path / "a.tif", target=out, settings=ask(None, "", strength=3.0), strength_map=where,
                label_strengths={1: 8.0},
            )
        )  # fmt: skip
        assert done.n_failed == 0
        np.testing.assert_array_equal(tifffile.imread(out), wanted)
    (tmp_path / "maps" / "a.tif").rename(tmp_path / "maps" / "b.tif")
    request = files.FilesRequest(
        source=tmp_path / "a.tif", target=tmp_path / "c.tif", settings=ask(None, ""), strength_map=tmp_path / "maps"
    )
    assert "0 strength maps for a.tif" in files.run(request).outcomes[0].error
    with pytest.raises(ParameterError, match="came without"):
        call(image, label_strengths={1: 2.0})
