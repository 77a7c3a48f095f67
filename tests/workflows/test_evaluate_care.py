"""Restorations scored on pairs: what is compared, in which units, what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity

from napari_cellenhance.core.doubt import DoubtScore, contrast_of, doubt_labels
from napari_cellenhance.core.errors import ParameterError
from napari_cellenhance.core.microscope import Level, Optics, blurred_by, point_spread
from napari_cellenhance.core.models.csb_unet import CSBUNet
from napari_cellenhance.core.normalize import fit_normalizer
from napari_cellenhance.io.images import write
from napari_cellenhance.workflows import restore, synthesize
from napari_cellenhance.workflows._evaluate_doubts import SHARES, doubts_table
from napari_cellenhance.workflows._evaluate_images import fitted
from napari_cellenhance.workflows.care_pairs import read_pair_files
from napari_cellenhance.workflows.evaluate_care import (
    CareEvaluation,
    EvaluateCareRequest,
    _psfs,
    run,
    save,
    to_markdown,
)
from napari_cellenhance.workflows.synthesize import Synthesis, SynthesizeRequest

OPTICS = Optics(na=0.4, wavelength_um=0.6, pixel_um=0.2)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Two clean images, each blurred and noisy once."""
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        image = np.zeros((40, 44))
        image[rng.integers(4, 36, 30), rng.integers(4, 40, 30)] = rng.uniform(0.5, 1, 30)
        image = blurred_by(image, point_spread(replace(OPTICS, na=0.8)))
        write(tmp_path / "data" / f"{name}.tif", image, "YX")
    level = Level(name="one", photons=(3000, 3000), sigma=(0.002, 0.002), gain=(0.7, 0.7))
    synthesis = Synthesis(optics=OPTICS, levels=(level,))
    synthesize.run(SynthesizeRequest(data=tmp_path / "data", out=tmp_path / "pairs", synthesis=synthesis))
    return tmp_path / "pairs"


@pytest.fixture
def model() -> str:
    return _saved("toy")


@pytest.fixture
def model_3d() -> str:
    return _saved("toy-3d", n_dims=3)


def _saved(model_id: str, **settings: int) -> str:
    from napari_cellenhance.zoo.weights import save_user_model

    torch.manual_seed(0)
    net = CSBUNet(is_residual=True, is_probabilistic=True, has_norm=False, width=4, **settings)
    card = {
        "id": model_id, "title": "Toy", "summary": "Random weights.", "version": "1.0", "recipe": "care",
        "architecture": net.architecture, "license": "CC0-1.0",
        "normalization": {"name": "percentile", "parameters": {"lo": 2.0, "hi": 99.8, "clip": False}},
        "strength": {"default": 1.0, "maximum": 1.0}, "training": {"calibration": {"factor": 0.5}},
    }  # fmt: skip
    return save_user_model(net.state_dict(), card).id


def test_scores_are_after_the_best_affine_fit_and_deconvolution_undoes_blur(pairs: Path) -> None:
    result = run(EvaluateCareRequest(data=pairs, methods=("noisy", "gaussian", "richardson-lucy"), optics=OPTICS))
    assert result.is_complete and len(result.rows) == 6
    pair = read_pair_files(pairs)[1]
    x, y = pair.poor.astype(float).ravel(), pair.clean.astype(float).ravel()
    residual = y - np.polyval(np.polyfit(x, y, 1), x)
    span = np.ptp(y)
    rows = {row["method"]: row for row in result.rows if row["image"] == pair.name}
    assert rows["noisy"]["psnr"] == pytest.approx(10 * np.log10(span**2 / np.mean(residual**2)), abs=1e-4)
    assert rows["noisy"]["mae"] == pytest.approx(np.abs(residual).mean() / span, rel=1e-4)
    assert rows["noisy"]["within_half"] is None
    assert rows["richardson-lucy"]["psnr"] > rows["noisy"]["psnr"] + 1
    assert "gaussian of the objective" in rows["richardson-lucy"]["setting"]
    blind = run(EvaluateCareRequest(data=pairs, methods=("richardson-lucy",)))
    assert blind.rows[0]["setting"].startswith("σ")


def test_models_are_scored_with_their_calibration(pairs: Path, model: str) -> None:
    result = run(EvaluateCareRequest(data=pairs, methods=(model,), device="cpu", precision="float32"))
    pair = read_pair_files(pairs)[0]
    opened = restore.open_restorer(model, "cpu", "float32")
    assert opened.restorer.scale_factor == 0.5
    found = restore.apply(restore.RestoreRequest(image=pair.poor, axes="YX"), opened)
    of_poor, of_clean = (fit_normalizer("percentile", image, lo=2, hi=99.8) for image in (pair.poor, pair.clean))
    span = of_poor.parameters["p_high"] - of_poor.parameters["p_low"]
    error = np.abs(of_poor.normalize(found.image) - of_clean.normalize(pair.clean))
    assert found.uncertainty is not None
    wanted = (error <= found.uncertainty / span * np.log(2)).mean()
    assert result.rows[0]["within_half"] == pytest.approx(wanted, abs=0.01)
    twice = run(EvaluateCareRequest(data=pairs, methods=(model,), device="cpu", precision="float32", repeats=2))
    assert twice.rows[0]["setting"] == "2 times" and twice.rows[0]["psnr"] != result.rows[0]["psnr"]


def test_models_of_matched_pairs_are_scored_in_the_grey_values_of_the_poor_image(
    pairs: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = restore.open_restorer(model, "cpu", "float32").card
    matched = card.model_copy(update={"training": {**card.training, "recipe": {"clean_scale": "poor"}}})
    opened = replace(restore.open_restorer(model, "cpu", "float32"), card=matched)
    monkeypatch.setattr(restore, "open_restorer", lambda *_: opened)
    row = run(EvaluateCareRequest(data=pairs, methods=(model,), device="cpu", precision="float32")).rows[0]
    pair = read_pair_files(pairs)[0]
    found = restore.apply(restore.RestoreRequest(image=pair.poor, axes="YX"), opened)
    slope, offset = np.polyfit(pair.clean.astype(float).ravel(), pair.poor.astype(float).ravel(), 1)
    error = np.abs(found.image - (slope * pair.clean + offset))
    assert found.uncertainty is not None
    assert row["within_half"] == pytest.approx((error <= np.log(2) * found.uncertainty).mean(), abs=2e-3)


def test_doubt_is_compared_with_the_true_errors(pairs: Path, model: str) -> None:
    result = run(EvaluateCareRequest(data=pairs, methods=("noisy", model), device="cpu", precision="float32"))
    assert [(image, method) for image, method, _ in result.doubts[:: len(SHARES)]] == [
        (pair.name, model) for pair in read_pair_files(pairs)
    ]
    pair = read_pair_files(pairs)[0]
    found = restore.apply(
        restore.RestoreRequest(image=pair.poor, axes="YX"), restore.open_restorer(model, "cpu", "float32")
    )
    assert found.uncertainty is not None
    for (_, _, score), share in zip(result.doubts, SHARES, strict=False):
        wanted = doubt_labels(found.uncertainty, contrast_of(found.image), share)
        assert score.share == share and abs(score.n_doubted - int(wanted.sum())) <= 3 and score.n_px == wanted.size
    assert not run(EvaluateCareRequest(data=pairs, methods=("noisy",))).doubts


def test_a_table_of_doubts_pools_images_and_leaves_open_what_cannot_be_told() -> None:
    share = SHARES[0]
    one = DoubtScore(share=share, n_px=90, n_doubted=9, n_wrong=18, n_both=6, sum_doubted=0.9, sum_trusted=0.81)
    two = DoubtScore(share=share, n_px=10, n_doubted=1, n_wrong=2, n_both=0, sum_doubted=0.1, sum_trusted=0.09)
    none = DoubtScore(share=0.5, n_px=10, n_doubted=0, n_wrong=0, n_both=0, sum_doubted=0.0, sum_trusted=0.1)
    lines = doubts_table([("a", "m", one), ("b", "m", two), ("a", "m", none)], str.upper).splitlines()
    assert lines[2] == f"| M | {100 * share:g} % | 10.0 % | 60.0 % | 30.0 % | 15.6 % | 10.0 % | 1.0 % |"
    assert lines[3] == "| M | 50 % | 0.0 % | – | – | 0.0 % | – | 1.0 % |"


def test_denoisers_can_be_compared(pairs: Path) -> None:
    request = EvaluateCareRequest(data=pairs, methods=("n2v2-fluorescence",), device="cpu", precision="float32")
    rows = run(request).rows
    assert len(rows) == 2 and rows[0]["within_half"] is None and rows[0]["psnr"] > 5


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Beads in 6 planes, blurred along all axes and noisy, beside clean ones."""
    rng = np.random.default_rng(1)
    clean = np.zeros((6, 40, 44))
    clean[rng.integers(1, 5, 40), rng.integers(4, 36, 40), rng.integers(4, 40, 40)] = rng.uniform(0.5, 1, 40)
    psf = point_spread(replace(OPTICS, step_um=4.0), 3)
    clean = ndimage.gaussian_filter(clean, 0.7)
    poor = blurred_by(clean, psf) + rng.normal(0, 0.001, clean.shape)
    for kind, image in (("noisy", poor), ("clean", clean)):
        (tmp_path / "stacks" / kind).mkdir(parents=True)
        write(tmp_path / "stacks" / kind / "a.tif", (1000 * image).astype(np.float32), "ZYX")
    return tmp_path / "stacks"


def test_volumes_are_scored_as_volumes(volumes: Path, model: str, model_3d: str) -> None:
    optics = replace(OPTICS, step_um=4.0)
    methods = ("noisy", "gaussian", "median", "nlm", "richardson-lucy", "n2v2-fluorescence", model, model_3d)
    asked = EvaluateCareRequest(
        data=volumes, n_dims=3, methods=methods, optics=optics, device="cpu", precision="float32"
    )
    result = run(asked)
    rows = {row["method"]: row for row in result.rows}
    assert list(rows) == list(methods) and len(read_pair_files(volumes, n_dims=3)) == 1
    assert rows["richardson-lucy"]["psnr"] > rows["noisy"]["psnr"] + 0.5
    blind = run(replace(asked, methods=("richardson-lucy",), optics=Optics())).rows[0]
    assert blind["psnr"] > rows["noisy"]["psnr"] and blind["setting"].startswith("σ")
    shown = next(iter(result.pictures.values()))
    assert {picture.plane.shape for picture in shown} == {(40, 44)}
    np.testing.assert_array_equal(shown[-1].plane, read_pair_files(volumes, n_dims=3)[0].clean[3])  # in the middle
    known, unknown = _psfs(optics, 3), _psfs(Optics(), 3)
    assert {psf.ndim for psf in (*known.values(), *unknown.values())} == {3}
    assert known["gaussian of the objective"].shape[0] > 1 == unknown["σ 0.8 px"].shape[0]
    pair = read_pair_files(volumes, n_dims=3)[0]
    planes = [structural_similarity(x, y, data_range=np.ptp(pair.clean), win_size=7)
              for x, y in zip(fitted(pair.poor, pair.clean), pair.clean.astype(float), strict=True)]  # fmt: skip
    assert rows["noisy"]["ssim"] == pytest.approx(np.mean(planes))
    smooth = ndimage.gaussian_filter(pair.poor, float(rows["gaussian"]["setting"].split()[1]))  # along Z, too
    error = fitted(smooth, pair.clean) - pair.clean
    wanted = 10 * np.log10(np.ptp(pair.clean) ** 2 / np.mean(error**2))
    assert rows["gaussian"]["psnr"] == pytest.approx(wanted, abs=1e-3)
    opened = restore.open_restorer(model_3d, "cpu", "float32")
    found = restore.apply(restore.RestoreRequest(image=pair.poor, axes="ZYX"), opened)
    mae = np.abs(fitted(found.image, pair.clean) - pair.clean).mean() / np.ptp(pair.clean)
    assert rows[model_3d]["mae"] == pytest.approx(mae, rel=1e-4)


def test_a_model_of_volumes_is_not_scored_on_planes(pairs: Path, model_3d: str) -> None:
    with pytest.raises(ParameterError, match=r"restores volumes.*--3d"):
        run(EvaluateCareRequest(data=pairs, methods=(model_3d,), device="cpu"))


def test_records_tables_and_pictures(pairs: Path, model: str, tmp_path: Path) -> None:
    request = EvaluateCareRequest(data=pairs, out=tmp_path / "out", methods=("noisy", model), device="cpu")
    result = run(request)
    assert {path.name for path in save(result, request)} >= {"scores.json", "scores.csv", "scores.md", "pictures.png"}
    assert len(json.loads((tmp_path / "out" / "scores.json").read_text())["rows"]) == 4
    table = to_markdown(result).splitlines()
    assert "within σ·ln 2" in table[0] and table[2].startswith("| poor image |") and table[2].endswith("| – |")
    assert [picture.title for picture in next(iter(result.pictures.values()))] == ["poor image", "toy", "clean"]
    out = tmp_path / "out"
    assert len((out / "doubts.csv").read_text().splitlines()) == 1 + 2 * len(SHARES)
    doubts = (out / "doubts.md").read_text().splitlines()
    assert len(doubts) == 2 + len(SHARES) and doubts[2].startswith(f"| toy | {100 * SHARES[0]:g} % |")
    with pytest.raises(ParameterError, match="nothing was scored"):
        save(CareEvaluation(rows=[]), request)


def test_unknown_methods_and_a_stop(pairs: Path, seeded_model: str) -> None:
    for name in ("magic", seeded_model):
        with pytest.raises(ParameterError, match=f"no method '{name}'"):
            run(EvaluateCareRequest(data=pairs, methods=("noisy", name)))
    with pytest.raises(ParameterError, match="no method was chosen"):
        EvaluateCareRequest(methods=())
    asked = iter([False, False, False, True])
    part = run(EvaluateCareRequest(data=pairs, methods=("noisy", "gaussian")), is_cancelled=lambda: next(asked))
    assert not part.is_complete and len(part.rows) == 3
