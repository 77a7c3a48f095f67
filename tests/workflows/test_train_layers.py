"""Training on images in memory: planes, labels, masks, what is kept for validation, and the estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from napari_cellenhance.core.errors import AxesError, ImageError, ParameterError, TrainingError
from napari_cellenhance.core.sources import ImageSource
from napari_cellenhance.workflows import train_layers
from napari_cellenhance.workflows.train import TrainLayer, TrainProgress, TrainRequest, checkpoint_of, run
from napari_cellenhance.workflows.train_estimate import estimate
from napari_cellenhance.workflows.train_layers import digest_of, read_layer, read_masks, split_layers
from napari_cellenhance.zoo.manifest import list_models, read_user_card
from napari_cellenhance.zoo.weights import load_state

OPTIONS = {"n_validation": 2, "n_dry_run": 1, "diameters_px": (8.0, 14.0)}


@pytest.fixture
def layer(cells: Any) -> TrainLayer:
    return TrainLayer(name="cells", image=cells.image, axes="YX", object_diameter_px=15.0)


@pytest.fixture
def request_(layer: TrainLayer, cells: Any, tmp_path: Path) -> TrainRequest:
    return TrainRequest(
        data=(layer,), out=tmp_path / "out", perception="random", masks=(cells.labels,), model_id="mine", n_steps=4,
        validate_every=2, batch_size=2, crop_px=32, n_masks=8, style_groups=2, precision="float32",
        recipe_options=OPTIONS,
    )  # fmt: skip


# --- layers → images ------------------------------------------------------------------------


def test_planes_are_stretched_and_dark_objects_become_bright(cells: Any) -> None:
    bright = read_layer(TrainLayer(name="a", image=cells.image, axes="YX"))
    dark = read_layer(TrainLayer(name="a", image=2000 - cells.image.astype(int), axes="YX", objects_are_dark=True))
    assert bright.images[0].dtype == np.float32 and bright.images[0].min() == 0 and bright.images[0].max() == 1
    assert np.allclose(bright.images[0], dark.images[0], atol=1e-5)
    before = cells.image.copy()
    assert np.array_equal(cells.image, before)


def test_a_stack_gives_its_planes_and_each_finds_its_labels(cells: Any) -> None:
    image = np.stack([cells.image, np.zeros_like(cells.image), cells.image[::-1]])
    labels = np.zeros(image.shape, int)
    labels[2] = cells.labels[::-1]
    source = read_layer(TrainLayer(name="a", image=image, axes="ZYX", labels=labels))
    assert len(source.images) == 2, "the flat plane teaches nothing"
    assert source.labels[0] is None and np.array_equal(source.labels[1], labels[2])
    only = read_layer(TrainLayer(name="a", image=image, axes="ZYX", labels=labels), wants_unlabelled=False)
    assert len(only.images) == 1 and only.labels[0] is not None


def test_channels_and_colours_follow_the_choice(cells: Any) -> None:
    image = np.stack([cells.image, cells.image[::-1]])
    assert len(read_layer(TrainLayer(name="a", image=image, axes="CYX", channels="all")).images) == 2
    one = read_layer(TrainLayer(name="a", image=image, axes="CYX", channels=(1,)))
    assert np.allclose(one.images[0], read_layer(TrainLayer(name="a", image=image[1], axes="YX")).images[0])
    rgb = np.stack([cells.image] * 3, axis=-1)
    assert read_layer(TrainLayer(name="a", image=rgb, axes="YXS")).images[0].shape == cells.image.shape


def test_labels_may_carry_the_channel_axis_of_the_window(cells: Any) -> None:
    image = np.stack([cells.image, cells.image])
    labels = np.zeros(image.shape, int)
    labels[1] = cells.labels
    source = read_layer(TrainLayer(name="a", image=image, axes="CYX", channels="grey", labels=labels))
    assert np.array_equal(source.labels[0], cells.labels)


def test_labels_of_another_shape_are_refused(cells: Any) -> None:
    with pytest.raises(ImageError, match=r"expected 96 × 112 pixels \(YX\)"):
        read_layer(TrainLayer(name="a", image=cells.image, axes="YX", labels=cells.labels[:50]))


def test_the_diameter_is_typed_or_measured_or_suggested(cells: Any) -> None:
    def diameter(**known: Any) -> float:
        return read_layer(TrainLayer(name="a", image=cells.image, axes="YX", **known)).diameters_px[0]

    assert diameter(object_diameter_px=31.0, labels=cells.labels) == 31.0
    true = 2 * float(np.median(cells.radii_px))
    assert diameter(labels=cells.labels) == pytest.approx(true, rel=0.1)
    assert diameter() == pytest.approx(true, rel=0.35)


def test_the_box_holds_what_is_painted_and_nothing_else_counts_as_ground(cells: Any) -> None:
    labels = np.where(cells.labels == 1, 1, 0)
    layer = TrainLayer(name="a", image=cells.image, axes="YX", labels=labels, labels_cover="box")
    source = read_layer(layer)
    boxed = [image for image, ids in zip(source.images, source.labels, strict=True) if ids is not None]
    assert len(boxed) == 1 and boxed[0].shape[0] < 40 and boxed[0].shape[1] < 40
    assert any(
        ids is None and im.shape == cells.image.shape for im, ids in zip(source.images, source.labels, strict=True)
    )


def test_a_huge_stack_is_thinned_and_labelled_planes_stay(cells: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_layers, "MAX_PIXELS", 3 * cells.image.size)
    image = np.stack([cells.image] * 9)
    labels = np.zeros(image.shape, int)
    labels[4] = cells.labels
    source = read_layer(TrainLayer(name="a", image=image, axes="TYX", labels=labels))
    assert len(source.images) == 3 and sum(ids is not None for ids in source.labels) == 1


def test_lazy_images_are_read_plane_by_plane() -> None:
    import dask.array as da

    n_read = []

    def block(block_info: Any = None) -> Any:
        n_read.append(1)
        return np.random.default_rng(0).random((1, 40, 40))

    image = da.map_blocks(block, chunks=((1,) * 5, (40,), (40,)), dtype=float, meta=np.empty((0, 0, 0)))
    assert len(read_layer(TrainLayer(name="a", image=image, axes="ZYX", object_diameter_px=9.0)).images) == 5


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"image": np.zeros((40, 40))}, ImageError, "no plane with contrast"),
        ({"axes": "ZYX"}, AxesError, "axes"),
        ({"channels": (3,), "image": np.zeros((2, 40, 40)), "axes": "CYX"}, ParameterError, "channels"),
    ],
)
def test_layers_that_cannot_be_used_are_refused(
    layer: TrainLayer, change: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        read_layer(replace(layer, **change))


def test_settings_of_a_layer_are_checked(layer: TrainLayer) -> None:
    with pytest.raises(ParameterError, match="object diameter"):
        replace(layer, object_diameter_px=0.0)
    with pytest.raises(ParameterError, match="labels_cover"):
        replace(layer, labels_cover="all")
    with pytest.raises(ImageError, match="no labelled plane"):
        read_layer(layer, wants_unlabelled=False)


def test_masks_of_any_shape_and_stacks_of_them(cells: Any) -> None:
    source = read_masks([np.stack([cells.labels, np.zeros_like(cells.labels)]), cells.labels[:40].astype(bool)])
    assert len(source.labels) == 2
    with pytest.raises(ImageError, match="nothing is painted"):
        read_masks([np.zeros((9, 9), int)])
    with pytest.raises(ImageError, match="whole numbers"):
        read_masks([cells.labels.astype(float)])


# --- kept for validation --------------------------------------------------------------------


def source_of(n: int, shape: tuple[int, int] = (120, 400)) -> ImageSource:
    images = [np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape) + i for i in range(n)]
    return ImageSource("s", images, [20.0] * n, [None] * n)


def test_of_one_image_a_strip_is_kept_that_training_never_sees() -> None:
    train, valid = split_layers([source_of(1)], 0.1, np.random.default_rng(0))
    seen, kept = train[0].images[0], valid[0].images[0]
    assert seen.shape == (120, 334) and kept.shape == (120, 66)
    assert not set(seen.ravel()) & set(kept.ravel())


def test_of_several_images_whole_ones_are_kept() -> None:
    train, valid = split_layers([source_of(8)], 0.25, np.random.default_rng(0))
    assert len(train[0].images) == 6 and len(valid[0].images) == 2


def test_a_small_image_is_not_cut() -> None:
    train, valid = split_layers([source_of(1, (100, 120))], 0.1, np.random.default_rng(0))
    assert train[0].images[0].shape == (100, 120) and valid == []


def test_the_strip_has_labels_where_the_image_has_some_on_one_side() -> None:
    labels = np.zeros((120, 400), int)
    labels[:, :200] = 1
    source = source_of(1)
    _, valid = split_layers([replace(source, labels=[labels])], 0.1, np.random.default_rng(0))
    assert valid[0].labels[0] is not None
    both = np.zeros((120, 400), int)
    both[:, :66] = 1
    _, valid = split_layers([replace(source, labels=[both])], 0.1, np.random.default_rng(0))
    assert not valid[0].labels[0].any(), "else nothing to learn from would be left"


def test_the_digest_knows_pixels_labels_and_diameters(cells: Any) -> None:
    layer = TrainLayer(name="a", image=cells.image, axes="YX", object_diameter_px=15.0, labels=cells.labels)
    changed = cells.labels.copy()
    changed[0, 0] = 9
    digests = {
        digest_of([read_layer(known)])
        for known in (
            layer, replace(layer, labels=changed), replace(layer, object_diameter_px=16.0),
            replace(layer, image=cells.image[::-1]), replace(layer, labels=None),
        )
    }  # fmt: skip
    assert len(digests) == 5 and digest_of([read_layer(layer)]) in digests


# --- training -------------------------------------------------------------------------------


def test_a_layer_and_a_mask_bank_make_a_model(request_: TrainRequest) -> None:
    pictures: list[Any] = []
    reports: list[TrainProgress] = []

    def on_progress(progress: Any) -> None:
        if isinstance(progress, TrainProgress):
            reports.append(progress)

    result = run(request_, on_progress=on_progress, on_picture=lambda *pair: pictures.append(pair))
    assert result.stopped == "finished" and "mine" in [m.id for m in list_models()]
    rows = [row for report in reports for row in report.rows]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert "val_total" in rows[1] and "val_total" not in rows[0] and {"content", "style"} <= set(rows[0])
    assert len(pictures) == 3, "before the first update, and after each validation"
    before, after = pictures[-1]
    assert before.shape == after.shape and after.dtype == np.float32 and 0 <= after.min() <= after.max() <= 1
    assert not np.array_equal(pictures[0][1], after)


def test_labels_alone_need_no_perceptual_network(request_: TrainRequest, layer: TrainLayer, cells: Any) -> None:
    taught = replace(
        request_, data=(replace(layer, labels=cells.labels),), perception="none", masks=None, teach="labels",
        init_from="nunet", n_steps=2,
    )  # fmt: skip
    result = run(taught)
    assert result.card is not None
    card = read_user_card(result.card)
    assert card.training["perception"] == "none" and "outlined objects" in card.summary
    with pytest.raises(ParameterError, match="needs a perceptual network"):
        run(replace(taught, teach="both"))
    with pytest.raises(ImageError, match="no labelled plane"):
        run(replace(taught, data=(layer,)))


def test_another_morphology_gives_another_bank(request_: TrainRequest, tmp_path: Path) -> None:
    stripes = np.zeros((96, 96), int)
    stripes[::8] = stripes[1::8] = stripes[2::8] = 1
    stripes *= np.arange(1, 97)[:, None] // 8 + 1
    banks = []
    for name, masks in (("discs", request_.masks), ("stripes", (stripes,))):
        run(replace(request_, masks=masks, out=tmp_path / name, n_steps=1, install=False))
        banks.append(load_state(tmp_path / name / "nunet-style-bank.safetensors")["gram_0"])
    assert not torch.allclose(banks[0], banks[1], rtol=0.05)


def test_masks_may_come_from_a_folder(request_: TrainRequest, cells: Any, tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", cells.labels.astype(np.uint16))
    one, other = tmp_path / "one", tmp_path / "other"
    run(replace(request_, masks=folder, out=one, n_steps=1, install=False))
    run(replace(request_, out=other, n_steps=1, install=False))
    name = "nunet-style-bank.safetensors"
    assert torch.equal(load_state(one / name)["gram_0"], load_state(other / name)["gram_0"])
    tifffile.imwrite(folder / "b.tif", cells.image.astype(np.float32))
    with pytest.raises(ImageError, match="no label image"):
        run(replace(request_, masks=folder, out=one))


def stop_at(step: int) -> tuple[Callable[[Any], None], Callable[[], bool]]:
    done: list[int] = []
    return (lambda p: done.append(p.n_done)), (lambda: bool(done) and done[-1] >= step)


def test_a_discarded_training_publishes_nothing_and_can_go_on(request_: TrainRequest, tmp_path: Path) -> None:
    whole = run(replace(request_, out=tmp_path / "whole", install=False))
    on_progress, is_discarded = stop_at(2)
    result = run(request_, on_progress=on_progress, is_discarded=is_discarded)
    assert result.stopped == "discarded" and result.weights is None
    assert "mine" not in [m.id for m in list_models()] and checkpoint_of(request_.out).exists()
    reports: list[Any] = []
    resumed = run(replace(request_, resume=True), on_progress=reports.append)
    assert resumed.weights is not None and whole.weights is not None
    a, b = load_state(whole.weights), load_state(resumed.weights)
    assert all(torch.equal(a[k], b[k]) for k in a)
    first = next(r for r in reports if isinstance(r, TrainProgress))
    assert [row["step"] for row in first.rows] == [1, 2, 3], "the earlier curves come back"


def test_resuming_on_other_pixels_or_masks_is_refused(request_: TrainRequest, cells: Any) -> None:
    on_progress, is_discarded = stop_at(2)
    run(request_, on_progress=on_progress, is_discarded=is_discarded)
    assert isinstance(request_.data, tuple)
    other = replace(request_.data[0], image=cells.image[::-1])
    for changed in (replace(request_, data=(other,)), replace(request_, masks=(cells.labels[:60],))):
        with pytest.raises(ParameterError, match="other settings"):
            run(replace(changed, resume=True))


def test_a_loss_that_breaks_before_anything_was_learned_leaves_no_model(
    request_: TrainRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellenhance.core.recipes.nunet import NUNetRecipe

    honest = NUNetRecipe.loss

    def breaks(self: Any, rng: Any, step: int) -> Any:
        losses = honest(self, rng, step)
        return losses | {"total": losses["total"] * (float("nan") if step == 1 else 1.0)}

    monkeypatch.setattr(NUNetRecipe, "loss", breaks)
    with pytest.raises(TrainingError, match="no filter to keep"):
        run(replace(request_, init_from="nunet"))
    assert "mine" not in [m.id for m in list_models()]


def test_no_image_and_an_unknown_teacher_are_told(request_: TrainRequest) -> None:
    with pytest.raises(ParameterError, match="at least one layer"):
        run(replace(request_, data=()))
    with pytest.raises(ParameterError, match="teach is"):
        replace(request_, teach="nobody")


# --- estimate -------------------------------------------------------------------------------


def test_the_estimate_counts_what_it_measured_and_stores_nothing(request_: TrainRequest) -> None:
    told: list[Any] = []
    found = estimate(request_, n_steps=2, on_progress=told.append)
    assert found is not None and found.step_s > 0 and found.validation_s > 0 and found.n_dry_run == 1
    assert found.total_s(100, 50) == pytest.approx(101 * found.step_s + 2 * found.validation_s)
    assert told[-1].n_done == told[-1].n_total
    assert not Path(request_.out).exists() and "mine" not in [m.id for m in list_models()]
    tuned = estimate(replace(request_, init_from="nunet"), n_steps=1)
    assert tuned is not None and tuned.n_dry_run == 0, "the balance of the parent is kept"
    assert estimate(request_, is_cancelled=lambda: True) is None
