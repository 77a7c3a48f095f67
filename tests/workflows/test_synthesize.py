"""Pairs from clean images: levels, log, seeds, files, pixel sizes, patches; and real pairs read from files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError, TargetExistsError
from napari_cellenhance.core.microscope import LEVELS, Level, Optics, Preparation, clean_target, expose
from napari_cellenhance.io.images import read, write
from napari_cellenhance.workflows import synthesize
from napari_cellenhance.workflows.care_pairs import PairedLayers, read_pair_files, read_pair_layers
from napari_cellenhance.workflows.noisy_images import NoisyLayer
from napari_cellenhance.workflows.synthesize import Synthesis, SynthesizeRequest, expose_images, psf_of, read_clean

NO_BLUR = Synthesis(optics=Optics(kind="none"))


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        image = np.kron(rng.random((6, 5)), np.ones((6, 8))) * 900 + 100
        write(
            tmp_path / "data" / f"{name}.tif", image.astype(np.uint16), "YX", dtype="keep",
            pixel_size_um={"Y": 0.1, "X": 0.1},
        )  # fmt: skip
    return tmp_path / "data"


def test_n_images_become_3_n_pairs_with_a_log_that_makes_each_again(clean: Path, tmp_path: Path) -> None:
    request = SynthesizeRequest(data=clean, out=tmp_path / "out", synthesis=Synthesis(), seed=4)
    result = synthesize.run(request)
    assert (result.n_images, result.n_pairs) == (2, 6) and result.log is not None
    log = json.loads(result.log.read_text())
    assert log["synthesis"]["optics"]["pixel_um"] == pytest.approx(0.1), "taken from the file"
    assert [pair["level"] for pair in log["pairs"]] == ["mild", "medium", "strong"] * 2
    synthesis = Synthesis.from_dict(log["synthesis"])
    assert synthesis.levels == LEVELS
    pair = log["pairs"][4]
    target = clean_target(read(clean / "b.tif").image, synthesis.preparation)
    again, _ = expose(target, psf_of(synthesis, 2), synthesis.levels[1], pair["seed"])
    assert np.array_equal(read(tmp_path / "out" / pair["noisy"]).image, again)
    assert np.array_equal(read(tmp_path / "out" / pair["clean"]).image, target)
    table = (tmp_path / "out" / "exposures.csv").read_text().splitlines()
    assert len(table) == 7 and "photons" in table[0] and (tmp_path / "out" / "preview.png").is_file()
    found = read(tmp_path / "out" / pair["noisy"])
    assert found.pixel_size_um["X"] == pytest.approx(0.1) and found.provenance is not None


def test_pairs_of_an_earlier_run_are_replaced_only_if_asked(clean: Path, tmp_path: Path) -> None:
    request = SynthesizeRequest(data=clean, out=tmp_path / "out", synthesis=NO_BLUR)
    synthesize.run(request)
    with pytest.raises(TargetExistsError, match="holds pairs already"):
        synthesize.run(request)
    one = replace(NO_BLUR, levels=(Level(name="only"),))
    synthesize.run(replace(request, synthesis=one, overwrite=True))
    assert len(list((tmp_path / "out" / "noisy").iterdir())) == 2, "nothing of the earlier run is left"
    (tmp_path / "out" / "clean" / "mine.tif").write_bytes(b"x")
    with pytest.raises(TargetExistsError, match="was not made by this command"):
        synthesize.run(replace(request, overwrite=True))


def test_a_cancel_writes_nothing(clean: Path, tmp_path: Path) -> None:
    request = SynthesizeRequest(data=clean, out=tmp_path / "out", synthesis=NO_BLUR)
    result = synthesize.run(request, is_cancelled=lambda: True)
    assert not result.is_complete and not list((tmp_path / "out" / "noisy").iterdir())


def test_without_a_pixel_size_the_blur_is_refused(tmp_path: Path) -> None:
    layer = NoisyLayer(name="x", image=np.random.default_rng(0).random((16, 16)), axes="YX")
    with pytest.raises(ParameterError, match="state it in micrometres"):
        synthesize.run(SynthesizeRequest(data=(layer,), out=tmp_path))
    known = Synthesis(optics=Optics(pixel_um=0.1))
    assert synthesize.run(SynthesizeRequest(data=(layer,), out=tmp_path, synthesis=known)).n_pairs == 3


def test_an_image_of_a_point_takes_the_place_of_the_optics(tmp_path: Path) -> None:
    bead = np.zeros((7, 7), np.uint16)
    bead[3, 3:5] = 100
    write(tmp_path / "bead.tif", bead, "YX", dtype="keep")
    synthesis = Synthesis(psf_file=tmp_path / "bead.tif")
    assert psf_of(synthesis, 2)[3, 4] == pytest.approx(0.5)
    with pytest.raises(ImageError, match="expected 3 dimensions"):
        psf_of(synthesis, 3)
    assert Synthesis.from_dict(json.loads(json.dumps(synthesis.to_dict()))).psf_file == str(tmp_path / "bead.tif")


def test_channels_volumes_and_groups() -> None:
    stack = np.random.default_rng(0).random((2, 5, 12, 12))
    layers = tuple(NoisyLayer(name=name, image=stack, axes="CZYX") for name in "ab")
    images, synthesis = read_clean(layers, replace(NO_BLUR, preparation=Preparation(lo=0, hi=100)), n_dims=3)
    pairs = expose_images(images, synthesis, 3, seed=0)
    assert len(pairs) == 2 * 2 * 3 and pairs[0].clean.shape == (5, 12, 12)
    assert {pair.group for pair in pairs} == {"a", "b"} and pairs[3].name == "a, channel 1, mild"
    assert len({pair.exposure.seed for pair in pairs}) == 12


def test_patches_for_other_programs(clean: Path, tmp_path: Path) -> None:
    synthesize.run(SynthesizeRequest(data=clean, out=tmp_path / "out", synthesis=NO_BLUR, n_patches=3, patch_px=16))
    with np.load(tmp_path / "out" / "patches.npz") as stored:
        assert stored["X"].shape == stored["Y"].shape == (18, 1, 16, 16) and str(stored["axes"]) == "SCYX"
        assert -0.2 < float(stored["Y"].mean()) < 1.2


# --- real pairs ------------------------------------------------------------------------------


def test_pairs_of_a_folder_are_grouped_by_their_clean_image(clean: Path, tmp_path: Path) -> None:
    synthesize.run(SynthesizeRequest(data=clean, out=tmp_path / "out", synthesis=NO_BLUR))
    pairs = read_pair_files(tmp_path / "out")
    assert len(pairs) == 6 and len({pair.group for pair in pairs}) == 2
    assert all(len({pair.group for pair in pairs[i : i + 3]}) == 1 for i in (0, 3)), "siblings stay together"
    (tmp_path / "out" / "clean").rename(tmp_path / "out" / "else")
    with pytest.raises(ImageError, match="no folder 'clean'"):
        read_pair_files(tmp_path / "out")


def test_pairs_of_layers_are_planes_channel_by_channel() -> None:
    rng = np.random.default_rng(0)
    poor, good = rng.random((3, 2, 8, 9)), rng.random((3, 2, 8, 9))
    poor[1, 0] = 5
    both = PairedLayers(
        poor=NoisyLayer(name="p", image=poor, axes="ZCYX"), clean=NoisyLayer(name="c", image=good, axes="ZCYX")
    )
    pairs = read_pair_layers((both,))
    assert len(pairs) == 5, "a plane of one grey value is left out, with its partner"
    assert np.allclose(pairs[2].poor, poor[1, 1]) and np.allclose(pairs[2].clean, good[1, 1])
    assert len({pair.group for pair in pairs}) == 3, "of a single layer, planes are kept aside"
    volumes = read_pair_layers((both,), 3)
    assert len(volumes) == 2 and np.allclose(volumes[1].clean, good[:, 1])
    wrong = replace(both, clean=NoisyLayer(name="c", image=good[:2], axes="ZCYX"))
    with pytest.raises(ImageError, match="expected the same"):
        read_pair_layers((wrong,))
    with pytest.raises(ParameterError, match="no pair"):
        read_pair_layers(())


def test_movies_of_stacks_keep_their_order() -> None:
    movie = np.arange(2 * 3 * 8 * 8, dtype=float).reshape(2, 3, 8, 8)
    layer = NoisyLayer(name="m", image=movie, axes="TZYX")
    pairs = read_pair_layers((PairedLayers(poor=layer, clean=layer),))
    assert [float(pair.poor[0, 0]) for pair in pairs] == [float(movie[t, z, 0, 0]) for t in range(2) for z in range(3)]
