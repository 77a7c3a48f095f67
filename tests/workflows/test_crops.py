"""Layers and files to a library of crops: every way, several planes, several images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_cellenhance.core.crop_library import CropLibrary
from napari_cellenhance.core.crop_options import BoxOptions, CutOptions, GroundOptions, KeepOptions, PointOptions
from napari_cellenhance.core.errors import ImageError, ParameterError, TargetExistsError
from napari_cellenhance.core.focus import BETWEEN, FocusOptions, FocusThresholds
from napari_cellenhance.io.crop_folders import read_crops
from napari_cellenhance.io.images import read, write
from napari_cellenhance.workflows import crop_files
from napari_cellenhance.workflows.crop_files import CropFilesRequest
from napari_cellenhance.workflows.crops import CropLayer, CropOptions, CropRequest, CropResult, resorted, run

SHAPE = (96, 128)
CENTRES = ((24, 24), (24, 64), (24, 104), (68, 24), (68, 64), (68, 104))
BLUR_PX = (0.7, 0.7, 0.7, 4.0, 4.0, 4.0)


def field(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three sharp nuclei above three blurred ones, labelled 1…6."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    image, labels = np.full(SHAPE, 20.0), np.zeros(SHAPE, np.int32)
    for i, ((cy, cx), blur) in enumerate(zip(CENTRES, BLUR_PX, strict=True), 1):
        disc = np.hypot(y - cy, x - cx) <= 9
        image += gaussian_filter(150.0 * disc, blur)
        labels[disc] = i
    noise = np.random.default_rng(seed).normal(0, 1, SHAPE)
    return (image + noise).clip(0, 255).astype(np.uint8), labels


def cut(layers: Any, **options: Any) -> CropResult:
    layers = layers if isinstance(layers, tuple) else (layers,)
    return run(CropRequest(layers=layers, options=CropOptions(**options)))


def kinds(library: CropLibrary) -> list[str]:
    return [one.kind for one in library.objects]


# --- ways -------------------------------------------------------------------------------------


def test_sharp_and_blurred_nuclei_come_apart() -> None:
    image, labels = field()
    layer = CropLayer(name="a", image=image, axes="YX", labels=labels)
    result = cut(layer, cut=CutOptions(focus=FocusOptions()))
    assert kinds(result.collection) == ["target"] * 3 + ["unwanted"] * 3
    assert result.thresholds is not None and result.thresholds.low < result.thresholds.high
    assert len(result.score_curve) == 6 and (np.diff(result.score_curve) >= 0).all()
    assert result.record["counts"] == {"target": 3, "unwanted": 3, "discarded": 0}
    json.dumps(result.record)


def test_thresholds_are_dragged() -> None:
    image, labels = field()
    layer = CropLayer(name="a", image=image, axes="YX", labels=labels)
    result = cut(layer, cut=CutOptions(focus=FocusOptions()))
    curve = result.score_curve
    strict = resorted(result, FocusThresholds(0.0, float(curve[-1])))
    assert strict.collection.counts() == {"target": 1, "unwanted": 0, "discarded": 5}
    assert strict.record["discarded_because"] == {BETWEEN: 5} and len(strict.score_curve) == 6
    assert (
        resorted(strict, result.thresholds or FocusThresholds(0, 0)).collection.counts() == result.collection.counts()
    )
    with pytest.raises(ParameterError, match="no focus score"):
        resorted(cut(layer), FocusThresholds(0, 1))


def test_a_given_threshold_moves_the_other() -> None:
    image, labels = field()
    layer = CropLayer(name="a", image=image, axes="YX", labels=labels)
    top = float(cut(layer, cut=CutOptions(focus=FocusOptions())).score_curve[-1])
    assert cut(layer, cut=CutOptions(focus=FocusOptions(low=2 * top))).thresholds == (2 * top, 2 * top)
    assert cut(layer, cut=CutOptions(focus=FocusOptions(high=1e-6))).thresholds == (1e-6, 1e-6)


def test_images_of_other_magnification_are_told() -> None:
    image, labels = field()
    small = CropLayer(name="small", image=image[::2, ::2], axes="YX", labels=labels[::2, ::2])
    large = CropLayer(name="large", image=image, axes="YX", labels=labels)
    options = CutOptions(keep=KeepOptions(min_area_px=5), focus=FocusOptions())
    (note,) = cut((small, large), cut=options).collection.notes
    assert "Objects of large are" in note and "one magnification" in note


def test_classes_as_a_second_layer_and_swapped() -> None:
    image, labels = field()
    layer = CropLayer(
        name="a", image=image, axes="YX", labels=labels, classes=np.where(labels <= 2, 1, 2) * (labels > 0)
    )
    assert kinds(cut(layer, target=("1",)).collection) == ["target"] * 2 + ["unwanted"] * 4
    assert kinds(cut(layer, target=("2",)).collection) == ["unwanted"] * 2 + ["target"] * 4


def test_paint() -> None:
    image, labels = field()
    painted = np.select([labels == 1, labels == 5], [2, 3], 0)
    painted[45:48] = 1
    result = cut(CropLayer(name="a", image=image, axes="YX", labels=painted), way="painted", target=("2",))
    assert kinds(result.collection) == ["target", "unwanted"]


def test_a_threshold_of_one_kind() -> None:
    layer = CropLayer(name="a", image=field()[0], axes="YX")
    assert cut(layer, way="segment").collection.counts()["target"] == 6
    assert cut(layer, way="segment", is_unwanted=True).collection.counts()["unwanted"] == 6


def test_points() -> None:
    points = {"cell": np.array(CENTRES[:2]), "dirt": np.array(CENTRES[4:])}
    layer = CropLayer(name="a", image=field()[0], axes="YX", points=points)
    how = PointOptions(n_openings=1)
    library = cut(layer, way="points", target=("cell",), points=how).collection
    assert library.counts()["target"] == 2 and library.counts()["unwanted"] == 2


def test_boxes_on_a_bright_field_image() -> None:
    image = (255 - field()[0]).astype(np.uint8)
    corners = np.array([[(c[0] - 14.5, c[1] - 14.5), (c[0] + 14.5, c[1] + 14.5)] for c in CENTRES[:3]])
    layer = CropLayer(name="a", image=image, axes="YX", boxes=corners)
    how = BoxOptions(n_squares=4, min_square_px=40, max_square_px=50)
    library = cut(layer, way="boxes", cut=CutOptions(is_dark=True), boxes=how).collection
    assert library.counts()["target"] == 3 and library.counts()["unwanted"] >= 1
    crop = library.of("target")[0].crop
    assert crop.pixels[crop.mask].mean() < 120  # in the grey values of the image


# --- stacks, channels, several images ---------------------------------------------------------


def test_frames_are_one_source_and_cells_are_followed() -> None:
    image, labels = field()
    movie, tracks = np.stack([image, image[:, ::-1]]), np.stack([labels, labels[:, ::-1]])
    layer = CropLayer(name="movie", image=movie, axes="TYX", labels=tracks)
    library = cut(layer, is_tracked=True).collection
    assert {one.crop.source for one in library.objects} == {"movie"}
    assert [(one.crop.frame, one.crop.track) for one in library.objects][:1] == [(0, 1)]
    assert sorted(one.crop.track or 0 for one in library.objects) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert len(library.backgrounds) == 2 and list(library.white) == ["movie"]


def test_planes_of_a_stack_are_images_of_their_own() -> None:
    image, labels = field()
    layer = CropLayer(name="stack", image=np.stack([image, image]), axes="ZYX", labels=np.stack([labels, labels]))
    assert {one.crop.source for one in cut(layer).collection.objects} == {"stack, z 0", "stack, z 1"}


def test_points_find_their_plane() -> None:
    image, _ = field()
    movie = np.stack([image, image])
    how = PointOptions(n_openings=1)

    def frames(points: np.ndarray, axes: str, pixels: np.ndarray) -> list[int]:
        layer = CropLayer(name="m", image=pixels, axes=axes, points={"cell": points})
        found = cut(layer, way="points", target=("cell",), points=how).collection.of("target")
        return [one.crop.frame for one in found]

    assert frames(np.array([(1, *CENTRES[0])]), "TYX", movie) == [1]
    assert frames(np.array([(1, 0, *CENTRES[0])]), "TCYX", movie[:, None]) == [1]
    assert frames(np.array([(1, *CENTRES[0])]), "TCYX", movie[:, None]) == [1]
    assert frames(np.array([CENTRES[0]]), "TYX", movie[:1]) == [0]
    with pytest.raises(ImageError, match="2 coordinates, its axes are TYX"):
        frames(np.array([CENTRES[0]]), "TYX", movie)


def test_channels_and_colours() -> None:
    image, labels = field()
    both = np.stack([image, 255 - image])
    one = cut(CropLayer(name="a", image=both, axes="CYX", labels=labels, channels=(0,))).collection
    alone = cut(CropLayer(name="a", image=image, axes="YX", labels=labels)).collection
    assert np.array_equal(one.objects[0].crop.pixels, alone.objects[0].crop.pixels)
    rgba = np.stack([image, image, image, np.full_like(image, 255)], axis=-1)
    colour = cut(CropLayer(name="a", image=rgba, axes="YXS", labels=labels, channels="colour")).collection
    assert colour.objects[0].crop.pixels.shape[2] == 3
    grey = cut(CropLayer(name="a", image=rgba, axes="YXS", labels=labels)).collection
    assert np.allclose(grey.objects[0].crop.pixels, one.objects[0].crop.pixels, atol=1e-3)


def test_stopping_keeps_what_was_cut() -> None:
    image, labels = field()
    layers = tuple(CropLayer(name=name, image=image, axes="YX", labels=labels) for name in "ab")
    told: list[str] = []
    request = CropRequest(layers=layers)
    result = run(request, on_progress=lambda p: told.append(p.message), is_cancelled=lambda: bool(told))
    assert not result.is_complete and {one.crop.source for one in result.collection.objects} == {"a"}
    assert told == ["Cutting “a”"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"way": "magic"}, "expected one of labels"),
        ({"way": "painted"}, "no painted class"),
        ({"way": "points"}, "0 classes of points"),
        ({"target": ("cell",)}, "whole numbers"),
        ({"way": "segment", "target": ("1",)}, "leave it out"),
        ({"target": ("1",), "cut": CutOptions(focus=FocusOptions())}, "nothing else gives them a class"),
        ({"is_unwanted": True, "target": ("1",)}, "choose one of both"),
    ],
)
def test_settings_that_exclude_each_other(options: Any, match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        CropOptions(**options)


def test_layers_without_what_is_needed() -> None:
    image, labels = field()
    with pytest.raises(ParameterError, match="choose at least one layer"):
        CropRequest(layers=())
    with pytest.raises(ParameterError, match="“a” has no labels"):
        cut(CropLayer(name="a", image=image, axes="YX"))
    with pytest.raises(ParameterError, match="“a” has no boxes"):
        cut(CropLayer(name="a", image=image, axes="YX"), way="boxes")
    with pytest.raises(ParameterError, match="has no classes of objects"):
        cut(CropLayer(name="a", image=image, axes="YX", labels=labels), target=("1",))
    with pytest.raises(ImageError, match="the labels for “a” have shape"):
        cut(CropLayer(name="a", image=image, axes="YX", labels=labels[:5]))
    with pytest.raises(ParameterError, match="2 channels"):
        CropLayer(name="a", image=image, axes="YX", channels=(0, 1))


# --- files ------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images with labels, boxes and points beside them."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "b"):
        image, labels = field(ord(name))
        write(folder / f"{name}.tif", image, "YX", dtype="keep")
        write(folder / f"{name}_labels.tif", labels, "YX", dtype="keep")
    lines = "".join(f"{y - 14},{x - 14},{y + 15},{x + 15}\n" for y, x in CENTRES[:2])
    (folder / "a_boxes.csv").write_text(f"y0,x0,y1,x1\n{lines}", encoding="utf-8")
    (folder / "a_points.csv").write_text("y,x\n24,24\n", encoding="utf-8")
    return folder


def request(folder: Path, **more: Any) -> CropFilesRequest:
    given = {"images": (folder,), "out": folder.parent / "crops", "labels": folder, "has_sheet": False, **more}
    return CropFilesRequest(**given)


def test_a_folder_becomes_a_library(images: Path) -> None:
    result = crop_files.run(request(images, has_sheet=True))
    assert result.counts == {"target": 12, "unwanted": 0, "discarded": 0}
    crops = read_crops(result.folder)
    assert (
        crops.sources == ("a.tif", "b.tif") and len(crops.backgrounds) == 2 and set(crops.white) == {"a.tif", "b.tif"}
    )
    record = json.loads((result.folder / "crops.csv.json").read_text(encoding="utf-8"))
    assert record["options"]["way"] == "labels" and record["counts"]["target"] == 12
    sheet = read(result.folder / "crops.png").image
    assert min(sheet.shape[:2]) > 200 and sheet.std() > 5


def test_crops_of_another_look_are_added(images: Path) -> None:
    out = images.parent / "crops"
    first = request(images, images=(images / "a.tif",), labels=None, boxes=images / "a_boxes.csv",
                    options=CropOptions(way="boxes", boxes=BoxOptions(n_squares=0)))  # fmt: skip
    assert crop_files.run(first).counts["target"] == 2
    labels = read(images / "a_labels.tif").image
    write(images / "a_labels.tif", np.where(labels > 3, labels, 0), "YX", dtype="keep", overwrite=True)
    second = request(images, images=(images / "a.tif",), labels=images / "a_labels.tif", is_added=True,
                     options=CropOptions(is_unwanted=True))  # fmt: skip
    result = crop_files.run(second)
    assert result.counts == {"target": 2, "unwanted": 3, "discarded": 0}
    (ground,) = read_crops(out).backgrounds
    assert ground.mask[24, 24] and ground.mask[68, 24]  # neither look's objects are background
    assert crop_files.run(second).counts == result.counts  # the same look again adds nothing


def test_images_without_a_partner_are_told(images: Path) -> None:
    (images / "b_labels.tif").unlink()
    result = crop_files.run(request(images))
    assert result.counts["target"] == 6 and any("b.tif has no reference" in note for note in result.notes)


def test_a_library_is_not_overwritten_by_accident(images: Path) -> None:
    crop_files.run(request(images, has_sheet=True))
    with pytest.raises(TargetExistsError, match="add to them"):
        crop_files.run(request(images))
    narrow = CropOptions(cut=CutOptions(keep=KeepOptions(max_area_px=40), ground=GroundOptions(window_px=0)))
    assert crop_files.run(request(images, overwrite=True, options=narrow)).counts["discarded"] == 12
    assert not (images.parent / "crops" / "crops.png").exists()  # the old one shows other crops
    with pytest.raises(ParameterError, match="choose one of both"):
        request(images, overwrite=True, is_added=True)


def test_nothing_found_writes_nothing(images: Path) -> None:
    write(images / "a_labels.tif", np.zeros(SHAPE, np.int32), "YX", dtype="keep", overwrite=True)
    with pytest.raises(ParameterError, match="no object was found"):
        crop_files.run(request(images, images=(images / "a.tif",), labels=images / "a_labels.tif"))
    assert not (images.parent / "crops").exists()


def test_stopping_writes_nothing(images: Path) -> None:
    result = crop_files.run(request(images), is_cancelled=lambda: True)
    assert not result.found.is_complete and not (images.parent / "crops").exists()


def test_files_that_do_not_belong_together(images: Path) -> None:
    with pytest.raises(ParameterError, match="one file for 2 images"):
        crop_files.run(request(images, labels=images / "a_labels.tif"))
    with pytest.raises(ParameterError, match="no file or folder"):
        crop_files.run(request(images, labels=images / "nowhere"))
    with pytest.raises(ParameterError, match="nothing to cut"):
        request(images, images=())
