"""Denoisers scored on noisy and clean pairs: what is scored, what learns from what, and what is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.io.images import write
from napari_cellenhance.io.pairs import read_pairs
from napari_cellenhance.workflows import evaluate_n2v
from napari_cellenhance.workflows.evaluate_n2v import EvaluateN2VRequest, N2VEvaluation, run, save, to_markdown
from napari_cellenhance.workflows.progress import Progress
from napari_cellenhance.workflows.train_n2v import N2VRequest

SMALL = N2VRequest(
    data="", out="", n_steps=3, batch_size=2, patch_px=16, width=4, validate_every=3, precision="float32",
    recipe_options={"n_validation": 2},
)  # fmt: skip


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    clean = gaussian_filter(rng.random((2, 40, 44)), (0, 3, 3))
    clean = (255 * (clean - clean.min()) / np.ptp(clean)).astype(np.float32)
    noisy = (0.5 * clean + 40 + rng.normal(0, 30, clean.shape)).astype(np.float32)
    np.savez(tmp_path / "p.npz", noisy=noisy, clean=clean)
    entry = {"npz": "p.npz", "planes": [[0], [1]]}
    source = {"name": "blobs", "noisy": entry | {"key": "noisy"}, "clean": entry | {"key": "clean"}}
    (tmp_path / "pairs.json").write_text(json.dumps({"sources": [source]}))
    return tmp_path / "pairs.json"


@pytest.fixture
def request_(pairs: Path, tmp_path: Path) -> EvaluateN2VRequest:
    return EvaluateN2VRequest(data=pairs, out=tmp_path / "out", methods=("noisy", "gaussian", "n2v2"), training=SMALL)


def test_scores_are_after_the_best_affine_fit(request_: EvaluateN2VRequest, pairs: Path) -> None:
    result = run(replace(request_, methods=("noisy", "gaussian", "median", "nlm")))
    assert result.is_complete and len(result.rows) == 8
    source = read_pairs(pairs)[0]
    x, y = source.noisy[1].astype(float).ravel(), source.clean[1].astype(float).ravel()
    residual = y - np.polyval(np.polyfit(x, y, 1), x)
    row = next(row for row in result.rows if row["method"] == "noisy" and row["image"] == 1)
    assert row["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean(residual**2)), abs=1e-6)
    best = {row["method"]: row for row in result.rows if row["image"] == 1}
    assert best["gaussian"]["psnr"] > row["psnr"] + 3 and best["gaussian"]["setting"].startswith("σ")
    assert best["nlm"]["psnr"] > row["psnr"] and best["median"]["ssim"] > row["ssim"]


def test_networks_learn_from_noisy_images_only_and_are_not_trained_again(
    request_: EvaluateN2VRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(request_)
    assert {row["method"] for row in first.rows} == {"noisy", "gaussian", "n2v2"}
    training = evaluate_n2v._training(request_, read_pairs(request_.data)[0], "n2v2")
    assert isinstance(training.data, tuple)
    assert all(
        np.array_equal(layer.image, noisy)
        for layer, noisy in zip(training.data, read_pairs(request_.data)[0].noisy, strict=True)
    )

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("napari_cellenhance.workflows.train_n2v.run", refuse)
    assert run(request_).rows == first.rows
    with pytest.raises(AssertionError, match="trained again"):
        run(replace(request_, training=replace(SMALL, seed=5)))


def test_a_stopped_evaluation_goes_on_where_it_was(request_: EvaluateN2VRequest) -> None:
    seen: list[Progress] = []
    part = run(request_, on_progress=seen.append, is_cancelled=lambda: len(seen) >= 2)
    assert not part.is_complete and {row["method"] for row in part.rows} == {"noisy", "gaussian"}
    assert run(request_).is_complete


def test_records_tables_and_pictures(request_: EvaluateN2VRequest) -> None:
    result = run(request_)
    names = {path.name for path in save(result, request_)}
    assert {"scores.json", "scores.csv", "scores.md", "pictures.png"} <= names
    record = json.loads((Path(request_.out) / "scores.json").read_text())
    assert len(record["rows"]) == 6
    table = to_markdown(result).splitlines()
    assert table[0] == "| | blobs | all | SSIM, all |" and table[3].startswith("| Gaussian, best σ |")
    with pytest.raises(ParameterError, match="nothing was scored"):
        save(N2VEvaluation(rows=[], seconds=0.0), request_)


def test_unknown_methods_are_refused_before_anything_is_done(request_: EvaluateN2VRequest) -> None:
    with pytest.raises(ParameterError, match="no method 'magic'"):
        run(replace(request_, methods=("noisy", "magic")))
    with pytest.raises(ParameterError, match="no method was chosen"):
        replace(request_, methods=())


# --- pairs ----------------------------------------------------------------------------------


def test_two_folders_are_paired_by_order_of_names(tmp_path: Path) -> None:
    for kind, value in (("noisy", 1), ("clean", 2)):
        (tmp_path / kind).mkdir()
        for name in ("a.tif", "b.tif"):
            write(tmp_path / kind / name, np.full((4, 5), value + (name == "b.tif") * 10, np.uint8), "YX", dtype="keep")
    found = read_pairs(tmp_path)[0]
    assert [int(plane[0, 0]) for plane in (*found.noisy, *found.clean)] == [1, 11, 2, 12]
    (tmp_path / "clean" / "b.tif").unlink()
    with pytest.raises(ImageError, match="2 noisy and 1 clean"):
        read_pairs(tmp_path)


def test_noise_can_be_added_to_clean_images(pairs: Path, tmp_path: Path) -> None:
    clean = {"npz": "p.npz", "planes": [[0], [1]], "key": "clean"}

    def read_with(noise: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
        (tmp_path / "n.json").write_text(json.dumps({"sources": [{"name": "a", "clean": clean, "noise": noise}]}))
        found = read_pairs(tmp_path / "n.json")[0]
        return np.stack(found.noisy), np.stack(found.clean)

    noisy, good = read_with({"sigma": 12, "seed": 3})
    assert np.std(noisy - good) == pytest.approx(12, rel=0.05)
    assert np.array_equal(noisy, read_with({"sigma": 12, "seed": 3})[0])
    noisy, good = read_with({"photons": 20, "read_sigma": 0.1})
    assert good.max() == pytest.approx(255) and good.min() == 0
    expected = 255**2 * (good.mean() / 255 / 20 + 0.01)
    assert np.var(noisy - good) == pytest.approx(expected, rel=0.1)
    for wrong, said in (
        ({"sigma": 1, "photons": 2}, "expected sigma, or photons"),
        ({"loud": 1}, r"the noise of '.*' has unknown settings \['loud'\]; known are"),
    ):
        with pytest.raises(ParameterError, match=said):
            read_with(wrong)


def test_pairs_that_do_not_fit_are_named(pairs: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", noisy=np.zeros((2, 4, 4)), clean=np.zeros((2, 5, 4)))
    with pytest.raises(ImageError, match="pair 0 of “blobs”"):
        read_pairs(pairs)
    (tmp_path / "bad.json").write_text(json.dumps({"sources": [{"name": "x", "noisy": {}}]}))
    with pytest.raises(ParameterError, match="either noisy or noise"):
        read_pairs(tmp_path / "bad.json")
    with pytest.raises(ImageError, match="neither a folder of images nor"):
        read_pairs(tmp_path / "nothing.json")
