"""AEP's evaluation: all cells are trained and scored, none twice, and what is written says so."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.workflows import evaluate_aep
from napari_cellenhance.workflows._evaluate_aep_tables import Cell, gains, markdown, rows_of
from napari_cellenhance.workflows._evaluate_aep_train import VARIANTS, build_variant
from napari_cellenhance.workflows._evaluate_cells import CellStore
from napari_cellenhance.workflows._evaluate_classes import found_objects, read_class_images, score
from napari_cellenhance.workflows.evaluate_aep import EvaluateAEPRequest, run, score_trained
from napari_cellenhance.workflows.progress import Progress


def _picture(seed: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs, two of them touching, and their labels."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.uint16)
    for k, (y, x) in enumerate(((16, 14), (16, 30), (46, 20), (44, 48)), start=1):
        labels[(yy - y - seed % 3) ** 2 + (xx - x) ** 2 <= 64] = k
    image = 40 + 140 * (labels > 0) + rng.normal(0, 12, labels.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """Six pictures with labelled objects, as an index of multi-page files."""
    rows = []
    with tifffile.TiffWriter(tmp_path / "i.tif") as images, tifffile.TiffWriter(tmp_path / "l.tif") as labels:
        for page in range(6):
            image, truth = _picture(page, 64)
            images.write(image)
            labels.write(truth)
            rows.append({"images": "i.tif", "labels": "l.tif", "page": page, "shape": [64, 64]})
    (tmp_path / "index.json").write_text(json.dumps(rows), encoding="utf-8")
    return _sources(tmp_path / "objects.json", {"name": "discs", "index": "index.json"})


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Three larger planes with a mask."""
    planes = [_picture(seed, 64) for seed in range(12)]
    stack = [
        np.block([[planes[4 * i + 2 * r + c][k] for c in (0, 1)] for r in (0, 1)]) for k in (0, 1) for i in range(3)
    ]
    np.savez(tmp_path / "planes.npz", images=np.stack(stack[:3]), mask=(np.stack(stack[3:]) > 0).astype(np.uint8))
    return _sources(tmp_path / "masks.json", {"name": "planes", "npz": "planes.npz", "key": "images", "masks": "mask"})


def _sources(path: Path, source: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"sources": [source]}), encoding="utf-8")
    return path


def _request(data: Path, out: Path, **more: Any) -> EvaluateAEPRequest:
    quick: dict[str, Any] = {
        "degradations": ("as acquired",), "variants": ("light", "aep-auto"), "n_steps": 2, "batch_size": 2,
        "crop_px": 32, "validate_every": 2, "device": "cpu", "precision": "float32", "folds": (0,),
    }  # fmt: skip
    return EvaluateAEPRequest(data=(data,), out=out, **(quick | more))


def _without_times(result: evaluate_aep.AEPEvaluation) -> list[dict[str, Any]]:
    return [{k: v for k, v in cell.as_row().items() if "seconds" not in k} for cell in result.cells]


# --- data ----------------------------------------------------------------------------------


def test_objects_make_three_classes_and_masks_two(objects: Path, masks: Path) -> None:
    (discs,) = read_class_images([objects]).values()
    assert [np.unique(image.classes).tolist() for image in discs] == [[1, 2, 3]] * 6
    assert discs[0].image.min() == 0 and discs[0].image.max() == 1
    assert {image.group for image in discs} == {image.name for image in discs}
    (planes,) = read_class_images([masks]).values()
    assert len(planes) == 3 and np.unique(planes[0].classes).tolist() == [1, 2] and planes[0].instances is None
    (plain,) = read_class_images([objects], has_border=False).values()
    assert np.unique(plain[0].classes).tolist() == [1, 2]


def test_planes_with_a_mask_are_cut_into_tiles_of_one_group(masks: Path) -> None:
    (tiles,) = read_class_images([masks], tile_px=64).values()
    assert len(tiles) == 12 and len({tile.group for tile in tiles}) == 3 and len({tile.name for tile in tiles}) == 12
    (whole,) = read_class_images([masks]).values()
    np.testing.assert_array_equal(tiles[3].image, whole[0].image[64:, 64:])
    np.testing.assert_array_equal(tiles[3].classes, whole[0].classes[64:, 64:])


def test_values_as_stored_where_stretching_is_off(masks: Path) -> None:
    (planes,) = read_class_images([masks], is_stretched=False).values()
    with np.load(masks.parent / "planes.npz") as archive:
        np.testing.assert_allclose(planes[0].image, archive["images"][0] / 255.0, atol=1e-6)


# --- scores --------------------------------------------------------------------------------


def test_a_perfect_segmentation_scores_one_and_the_border_parts_touching_objects(objects: Path) -> None:
    (images,) = read_class_images([objects]).values()
    known = {image.image.tobytes(): image.classes for image in images}
    found = score(lambda plane: known[plane.tobytes()], [i.image for i in images], images, (1, 2, 3), min_object_px=20)
    assert found["mean_iou"] == found["mean_dice"] == found["average_precision"] == 1.0
    assert found["iou"] == {"background": 1.0, "object": 1.0, "border": 1.0}
    assert 0.8 < found["seg"] < 1.0, "the line of contact is not part of the objects"


def test_scores_are_pooled_over_images() -> None:
    (first, second) = (np.array([[1, 1, 2, 2]], np.int32), np.array([[1, 1, 1, 2]], np.int32))
    from napari_cellenhance.workflows._evaluate_classes import ClassImage

    plane = np.zeros((1, 4), np.float32)
    images = [
        ClassImage(source="s", name=str(i), group=str(i), image=plane, classes=classes, instances=None)
        for i, classes in enumerate((first, second))
    ]
    found = score(lambda plane: first, [plane, plane], images, (1, 2))
    assert found["iou"]["object"] == pytest.approx(3 / 4) and found["iou"]["background"] == pytest.approx(4 / 5)
    assert found["dice"]["object"] == pytest.approx(6 / 7)
    assert math.isnan(found["seg"]) and math.isnan(found["average_precision"])


def test_small_objects_are_dropped() -> None:
    labels = np.ones((20, 20), np.int32)
    labels[2:8, 2:8], labels[12:14, 12:14] = 2, 2
    found = found_objects(labels, min_object_px=10)
    assert np.unique(found).size == 2 and found[3, 3] > 0 and found[12, 12] == 0


# --- runs ----------------------------------------------------------------------------------


def test_every_cell_is_trained_once_and_found_again(objects: Path, tmp_path: Path) -> None:
    request = _request(objects, tmp_path / "out", degradations=("as acquired", "noise"))
    told: list[Progress] = []
    first = run(request, on_progress=told.append)
    assert first.is_complete and first.n_found == 0
    assert [(c.degradation, c.variant) for c in first.cells] == [
        ("as acquired", "light"), ("as acquired", "aep-auto"), ("noise", "light"), ("noise", "aep-auto"),
    ]  # fmt: skip
    assert told[-1].n_done == told[-1].n_total == 4 * request.n_steps
    assert all(0 <= cell.result["mean_iou"] <= 1 and cell.result["n_steps"] == 2 for cell in first.cells)
    assert len(first.cells[1].result["branch_weights"]) == 4 and len(first.cells[0].result["branch_weights"]) == 1

    again = run(request)
    assert again.n_found == 4 and _without_times(again) == _without_times(first)


def test_a_further_fold_or_other_setting_is_trained_and_the_rest_is_not(objects: Path, tmp_path: Path) -> None:
    request = _request(objects, tmp_path / "out", variants=("light",))
    run(request)
    both = run(replace(request, folds=(0, 1)))
    assert both.n_found == 1 and [cell.fold for cell in both.cells] == [0, 1]
    assert run(replace(request, n_steps=1)).n_found == 0
    assert run(replace(request, min_object_px=5)).n_found == 0
    assert run(replace(request, dropout=0.1)).n_found == 0
    assert run(replace(request, seeds=(0, 1))).n_found == 1


def test_every_network_learns_with_the_dropout_of_the_request(
    objects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellenhance.workflows import _evaluate_aep_train

    built: list[Any] = []

    def note(*args: Any) -> Any:
        built.append(build_variant(*args))
        return built[-1]

    monkeypatch.setattr(_evaluate_aep_train, "build_variant", note)
    run(_request(objects, tmp_path / "out", variants=("light", "aep-auto", "unet"), dropout=0.25))
    assert {module.dropout for module in built} == {0.25} and len(built) >= 3


def test_the_same_settings_give_the_same_scores_elsewhere(objects: Path, tmp_path: Path) -> None:
    one, two = (run(_request(objects, tmp_path / name, variants=("aep-auto",))) for name in ("a", "b"))
    assert _without_times(one) == _without_times(two)


def test_a_stop_keeps_what_is_done_and_the_next_run_goes_on(objects: Path, tmp_path: Path) -> None:
    request = _request(objects, tmp_path / "out")
    n_done = 0

    def count(progress: Progress) -> None:
        nonlocal n_done
        n_done = progress.n_done

    stopped = run(request, on_progress=count, is_cancelled=lambda: n_done >= request.n_steps + 1)
    assert not stopped.is_complete and [cell.variant for cell in stopped.cells] == ["light"]
    assert not json.loads((tmp_path / "out" / "scores.json").read_text())["is_complete"]
    rest = run(request)
    assert rest.is_complete and rest.n_found == 1 and len(rest.cells) == 2


def test_files_say_what_was_found(objects: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(_request(objects, out, variants=("unet", "aep-auto"), prefilters=("none", "sobel 3")))
    assert len(result.cells) == 3, "the U-Net without a filter is trained once"
    with (out / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["variant"], row["prefilter"]) for row in rows] == [
        ("unet", "none"), ("aep-auto", "none"), ("unet", "sobel 3"),
    ]  # fmt: skip
    assert float(rows[0]["mean_iou"]) == pytest.approx(result.cells[0].result["mean_iou"])
    with (out / "cells.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 3
    record = json.loads((out / "scores.json").read_text())
    assert record["request"]["n_steps"] == 2 and len(record["less_unet"]) == 1
    text = (out / "scores.md").read_text()
    assert "IoU" in text and "AP@0.5" in text and "sobel 3" in text and "AEP + AWEL" in text
    assert (out / "discs.png").stat().st_size > 10_000


def test_tiles_of_a_plane_are_not_torn_apart(masks: Path, tmp_path: Path) -> None:
    result = run(_request(masks, tmp_path / "out", variants=("light",), tile_px=64))
    assert result.cells[0].result["n_images"] == [4, 4, 4]
    assert set(result.cells[0].result["iou"]) == {"background", "object"}


def test_training_learns_what_the_test_images_show(objects: Path, tmp_path: Path) -> None:
    request = _request(
        objects, tmp_path / "out", variants=("aep-auto",), has_border=False, n_steps=40, validate_every=20, batch_size=4
    )
    cell = run(request).cells[0]
    assert cell.result["iou"]["object"] > 0.5 and cell.result["iou"]["background"] > 0.8


def test_a_trained_network_is_scored_on_all_images(objects: Path, tmp_path: Path) -> None:
    request = _request(objects, tmp_path / "out", degradations=("as acquired", "blur"))
    result = score_trained(build_variant("aep-auto", 3, 0), (1, 2, 3), request, name="mine")
    assert [(cell.degradation, cell.variant, cell.fold) for cell in result.cells] == [
        ("as acquired", "mine", -1), ("blur", "mine", -1),
    ]  # fmt: skip
    evaluate_aep.save(result, request)
    assert "mine" in (tmp_path / "out" / "scores.md").read_text()
    assert not score_trained(build_variant("light", 3, 0), (1, 2, 3), request, is_cancelled=lambda: True).is_complete
    with pytest.raises(ParameterError, match="label values"):
        score_trained(build_variant("light", 3, 0), (1, 2), request)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_what_their_name_says_and_seeded(name: str) -> None:
    import torch

    before = torch.random.get_rng_state()
    module, same, other = (build_variant(name, 3, seed) for seed in (1, 1, 2))
    assert (torch.random.get_rng_state() == before).all()
    pair = [next(iter(m.parameters())).detach() for m in (module, same, other)]
    assert bool((pair[0] == pair[1]).all()) and not bool((pair[0] == pair[2]).all())
    about = module.architecture
    assert about["dropout"] == 0.5 and build_variant(name, 3, 1, 0.2).architecture["dropout"] == 0.2
    assert about["name"] == ("aep" if name.startswith("aep") else "plain-segmenter")
    if name.startswith("aep"):
        expected = {"aep": "none", "aep-fixed": "fixed"}.get(name, "auto")
        assert about["ensemble"] == expected


# --- tables --------------------------------------------------------------------------------


def _cell(variant: str, fold: int, mean_iou: float, degradation: str = "as acquired") -> Cell:
    result = {"mean_iou": mean_iou, "mean_dice": mean_iou, "iou": {"object": mean_iou}, "dice": {"object": mean_iou}}
    return Cell(
        source="s", degradation=degradation, prefilter="none", variant=variant, fold=fold, seed=0, result=result
    )


def test_rows_are_means_over_folds_and_gains_are_paired() -> None:
    cells = [_cell("unet", 0, 0.5), _cell("unet", 1, 0.7), _cell("aep", 0, 0.55), _cell("aep", 1, 0.69)]
    cells += [_cell("aep", 2, 0.99)]
    rows = rows_of(cells)
    assert rows[0]["mean_iou"] == pytest.approx(0.6) and rows[0]["mean_iou_sd"] == pytest.approx(0.1 * math.sqrt(2))
    (gain,) = gains(cells)
    assert gain.mean == pytest.approx(0.02) and (gain.n, gain.n_better) == (2, 1), (
        "the fold without partner is left out"
    )
    text = markdown(cells)
    assert "+2.00" in text and "1 of 2" in text and "**74.33" in text and "60.00 ± 14.14" in text


def test_stored_nan_comes_back_and_a_damaged_file_does_not_count(tmp_path: Path) -> None:
    store = CellStore(tmp_path / "cells")
    store.keep({"fold": 0}, {"seg": math.nan, "iou": {"a": 0.5}}, {"labels": np.ones((2, 2), np.uint8)})
    found = store.find({"fold": 0})
    assert found is not None and math.isnan(found["seg"]) and found["iou"] == {"a": 0.5}
    assert (store.example({"fold": 0})["labels"] == 1).all()
    assert store.find({"fold": 1}) is None and store.example({"fold": 1}) == {}
    next(store.folder.glob("*.json")).write_text('{"identity": ', encoding="utf-8")
    assert store.find({"fold": 0}) is None


# --- wrong usage ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"degradations": ("fog",)}, "fog"),
        ({"variants": ("vnet",)}, "vnet"),
        ({"prefilters": ("median 5",)}, "median 5"),
        ({"folds": (3,)}, "folds"),
        ({"seeds": ()}, "seeds"),
        ({"n_steps": 0}, "updates"),
    ],
)
def test_wrong_settings_are_told(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        EvaluateAEPRequest(**settings)


def test_no_folder_and_no_images_are_told(objects: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="folder"):
        run(EvaluateAEPRequest(data=(objects,)))
    with pytest.raises(ImageError, match="nothing to learn"):
        run(EvaluateAEPRequest(out=tmp_path / "out"))
    with pytest.raises(ParameterError, match="independent images"):
        run(_request(objects, tmp_path / "out", max_images=2))
