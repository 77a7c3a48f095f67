"""What is said before a training, which model fits, how noise is looked at, and the chain of steps in the records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellenhance.io.images import read, write
from napari_cellenhance.workflows import denoise, enhance, noisy_images, train_n2v
from napari_cellenhance.workflows import denoise_layers as layers
from napari_cellenhance.workflows.denoise import DenoiseRequest, list_denoisers
from napari_cellenhance.workflows.denoise_files import DenoiseFilesRequest
from napari_cellenhance.workflows.denoise_files import run as denoise_files
from napari_cellenhance.workflows.files import FilesRequest
from napari_cellenhance.workflows.files import run as enhance_files
from napari_cellenhance.workflows.noisy_images import NoisyLayer, portion_of, read_layers, window_at
from napari_cellenhance.workflows.progress import Progress
from napari_cellenhance.workflows.requests import EnhanceRequest
from napari_cellenhance.workflows.train_n2v import N2VRequest
from napari_cellenhance.zoo.cards import ModelCard


def noisy(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).poisson(40, shape).astype(np.uint16)


def layer(axes: str, *shape: int, name: str = "cells", channels: Any = "all") -> NoisyLayer:
    return NoisyLayer(name=name, image=noisy(*shape), axes=axes, channels=channels)


@pytest.fixture
def model(tmp_path: Path) -> ModelCard:
    """A small denoiser in the user's folder, trained for two updates."""
    request = N2VRequest(
        data=(layer("YX", 32, 32),), out=tmp_path / "training", model_id="small", title="Small", n_steps=2, depth=1,
        width=4, batch_size=2, patch_px=16, validate_every=1, n_threads=1, recipe_options={"n_validation": 4},
    )  # fmt: skip
    train_n2v.run(request)
    return next(card for card in list_denoisers() if card.id == "small")


# --- what is said before a training -------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "n_dims", "said"),
    [
        ([layer("YX", 40, 50)], 2, "It learns from 1 plane of 40 × 50 px."),
        ([layer("TZYX", 2, 3, 40, 50)], 2, "It learns from 6 planes of 40 × 50 px."),
        ([layer("TZYX", 2, 8, 40, 50)], 3, "It learns from 2 volumes of 8 × 40 × 50 px."),
        ([layer("CYX", 2, 40, 50)], 2, "It learns from 1 plane of 40 × 50 px, 2 channels each."),
        ([layer("YXS", 40, 50, 3, channels="grey")], 2, "It learns from 1 plane of 40 × 50 px."),
        ([layer("YX", 40, 50), layer("ZYX", 3, 60, 50)], 2, "It learns from 2 images: 4 planes."),
    ],
)
def test_what_is_learned_from_is_said(given: list[NoisyLayer], n_dims: Any, said: str) -> None:
    assert layers.learned_from(given, n_dims) == said


def test_large_stacks_are_thinned_out_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noisy_images, "MAX_PIXELS", 3 * 20 * 20)
    stack = layer("TYX", 9, 20, 20)
    said = layers.learned_from([stack])
    assert said.startswith("It learns from 3 of 9 planes of 20 × 20 px") and "too much memory" in said
    names = [image.name for image in read_layers([stack])]
    assert names == ["cells, plane 0", "cells, plane 4", "cells, plane 8"]
    assert portion_of(stack, n_layers=3).n_used == 1, "layers share the memory"


@pytest.mark.parametrize(
    ("given", "n_dims", "said"),
    [
        ([layer("YX", 10, 300)], 2, "10 × 300 px; a training needs 16 px"),
        ([layer("YX", 40, 50)], 3, "no Z axis"),
        ([layer("ZYX", 3, 40, 50)], 3, "3 planes along Z; a training on volumes needs 4"),
        ([layer("CYX", 2, 40, 50), layer("YX", 40, 50, name="other")], 2, "“other” has 1 channels, “cells” 2"),
        ([layer("TYX", 40, 50)], 2, "name 3 dimensions"),
        ([layer("YX", 40, 50)], 2, ""),
    ],
)
def test_what_cannot_be_learned_from_is_said_first(given: list[NoisyLayer], n_dims: Any, said: str) -> None:
    problem = layers.learning_problem(given, n_dims)
    assert said in problem and bool(problem) == bool(said)


def test_lazy_images_are_read_only_where_they_are_looked_at() -> None:
    import dask.array as da

    touched: list[int] = []

    def make(block_info: Any = None) -> Any:
        touched.append(block_info[None]["chunk-location"][0])
        return noisy(1, 32, 32)

    stack = da.map_blocks(make, chunks=((1,) * 5, (32,), (32,)), dtype=np.uint16, meta=np.empty((0, 0, 0), np.uint16))
    lazy = NoisyLayer(name="lazy", image=stack, axes="TYX")
    assert layers.learned_from([lazy]) == "It learns from 5 planes of 32 × 32 px."
    assert not layers.learning_problem([lazy]) and not touched
    assert window_at(lazy, t=3).shape == (1, 32, 32) and touched == [3]


def test_a_window_has_all_channels_and_no_holes() -> None:
    image = noisy(2, 3, 4, 20, 24).astype(np.float32)
    image[1, 0, 2, 5, 5] = np.nan
    stack = NoisyLayer(name="s", image=image, axes="TCZYX")
    plane = window_at(stack, t=1, planes=2)
    assert plane.shape == (3, 20, 24) and plane.dtype == np.float32 and np.isfinite(plane).all()
    assert np.array_equal(plane[1], image[1, 1, 2])
    assert window_at(stack, t=0, planes=slice(1, 9)).shape == (3, 3, 20, 24)


# --- which model fits ---------------------------------------------------------------------------


def test_a_start_must_have_the_same_network(model: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(**changes: Any) -> N2VRequest:
        return N2VRequest(**{"data": "", "out": "", "depth": 1, "width": 4, **changes})

    assert layers.can_start_from(asked(), model) and layers.can_start_from(asked(), model, n_channels=3)
    for changes in ({"depth": 2}, {"width": 8}, {"variant": "n2v"}, {"n_dims": 3}, {"kernel_px": 5}):
        assert not layers.can_start_from(asked(**changes), model), changes
    assert not layers.can_start_from(asked(is_joint=True), model, n_channels=2)
    assert layers.general_start(asked(), [model]) is None, "a model of the user is no general one"
    monkeypatch.setattr(layers, "DEFAULT_DENOISER", "small")
    assert layers.general_start(asked(), [model]) == model and layers.general_start(asked(depth=2), [model]) is None


def test_images_that_a_model_cannot_take_are_named(model: ModelCard) -> None:
    two = model.model_copy(update={"architecture": {**model.architecture, "n_channels": 2}})
    volumes = model.model_copy(update={"axes": "ZYX"})
    assert layers.misfit(model, "cells", "CYX", (3, 40, 50), "all") == ""
    assert "2 channels, and “cells” gives 3" in layers.misfit(two, "cells", "CYX", (3, 40, 50), "all")
    assert layers.misfit(two, "cells", "CYX", (3, 40, 50), (0, 1)) == ""
    assert "gives 1" in layers.misfit(two, "cells", "CYX", (3, 40, 50), "grey")
    assert "no Z axis" in layers.misfit(volumes, "cells", "YX", (40, 50), "all")
    assert layers.misfit(volumes, "cells", "ZYX", (4, 40, 50), "all") == ""


# --- the noise ----------------------------------------------------------------------------------


def test_lines_in_the_noise_are_found_and_proposed() -> None:
    rng = np.random.default_rng(1)
    plain = rng.normal(100, 10, (1, 96, 96)).astype(np.float32)
    lines = plain + np.repeat(rng.normal(0, 12, (1, 96, 24)), 4, axis=2).astype(np.float32)
    look = layers.look_at_noise(NoisyLayer(name="a", image=plain, axes="ZYX"))
    assert (look.structure, look.reach_px) == ("none", 0) and "no structure" in look.sentence
    assert look.along_rows[0] == 1 and len(look.shifts_px) == len(look.along_rows) == len(look.along_columns)
    look = layers.look_at_noise(NoisyLayer(name="a", image=lines, axes="ZYX"))
    assert look.structure == "horizontal" and look.reach_px >= 2 and "along rows share noise" in look.sentence
    flat = layers.look_at_noise(NoisyLayer(name="a", image=np.full((40, 40), 7.0), axes="YX"))
    assert flat.structure == "none" and "one single grey value" in flat.sentence


# --- several at once ----------------------------------------------------------------------------


def test_images_are_denoised_one_after_the_other(model: ModelCard) -> None:
    requests = [
        DenoiseRequest(image=noisy(24, 30, seed=i), axes="YX", model_id="small", source_name=f"im{i}", device="cpu")
        for i in range(3)
    ]
    told: list[Progress] = []
    found = layers.denoise_layers(requests, on_progress=told.append)
    assert [one.result.image.shape for one in found] == [(24, 30)] * 3
    alone = denoise.run(requests[1])
    assert np.array_equal(found[1].result.image, alone.image)
    low, high = found[1].limits
    assert alone.image.min() <= low < high <= alone.image.max()
    assert {"im0", "im1", "im2"} <= {p.message.split("“")[1].split("”")[0] for p in told if "“" in p.message}
    two = layers.denoise_layers(requests, is_cancelled=lambda: any("im1" in p.message for p in told[-1:]),
                                on_progress=told.append)  # fmt: skip
    assert 1 <= len(two) < 3, "what was finished is kept"
    assert layers.denoise_layers([]) == []


# --- the chain of steps -------------------------------------------------------------------------


def test_records_carry_the_earlier_step_both_ways(model: ModelCard, tmp_path: Path) -> None:
    image = noisy(32, 40)
    first = denoise.run(DenoiseRequest(image=image, axes="YX", model_id="small", device="cpu"))
    assert first.provenance["earlier"] is None
    second = enhance.run(EnhanceRequest(image=first.image, axes="YX", filter_id="dog", earlier=first.provenance))
    assert second.provenance["filter"] == "dog" and second.provenance["earlier"]["model"] == "small"
    third = denoise.run(
        DenoiseRequest(image=second.image, axes="YX", model_id="small", device="cpu", earlier=second.provenance)
    )
    assert third.provenance["earlier"]["earlier"]["step"] == "denoise"


def test_files_carry_the_earlier_step(model: ModelCard, tmp_path: Path) -> None:
    raw, clean, final = (tmp_path / f"{name}.ome.tif" for name in ("raw", "clean", "final"))
    write(raw, noisy(32, 40), "YX", dtype="keep")
    settings = DenoiseRequest(image=None, axes="", model_id="small", device="cpu")
    denoise_files(DenoiseFilesRequest(source=raw, target=clean, settings=settings))
    enhance_files(
        FilesRequest(source=clean, target=final, settings=EnhanceRequest(image=None, axes="", filter_id="dog"))
    )
    record = read(final).provenance
    assert record is not None and record["filter"] == "dog" and record["earlier"]["model"] == "small"
    assert record["earlier"]["earlier"] is None
