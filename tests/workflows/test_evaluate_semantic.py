"""The evaluation of the semantic filter: layers are exact, overlaps are as asked for, nothing is trained twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_cellenhance.core.crops import Background, CropSet, ObjectCrop
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.synthetic_pairs import SceneSettings
from napari_cellenhance.workflows import _evaluate_semantic_movies
from napari_cellenhance.workflows._evaluate_semantic_data import MovieSpec, read_spec
from napari_cellenhance.workflows._evaluate_semantic_methods import (
    Lesson,
    Made,
    Objects,
    Way,
    _masked,
    _nmf,
    open_way,
    tuned,
)
from napari_cellenhance.workflows._evaluate_semantic_mixtures import score_mixtures
from napari_cellenhance.workflows._evaluate_semantic_movies import scene_finder, score_movies
from napari_cellenhance.workflows._evaluate_semantic_scenes import (
    LEVELS,
    Composer,
    Mixture,
    SyntheticMovie,
    channel_patches,
    make_movie,
)
from napari_cellenhance.workflows.evaluate_semantic import EvaluateSemanticRequest, run, to_markdown
from napari_cellenhance.workflows.progress import Progress

SCENE = SceneSettings(size_px=32, n_target=(1, 1), n_unwanted=(1, 2), gain=(1.0, 1.0), zoom=(1.0, 1.0))


def _disc(radius: int, value: float, source: str = "a") -> ObjectCrop:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    mask = y**2 + x**2 <= radius**2
    pixels = np.where(mask, np.float32(value), np.float32(0))
    return ObjectCrop(pixels=pixels, mask=mask, source=source, box=(0, 0, *mask.shape))


def _crops() -> CropSet:
    """Large discs to keep, small ones to remove, on a ground of 0.1; two images."""
    grounds = tuple(
        Background(pixels=np.full((48, 48), 0.1, np.float32), mask=np.zeros((48, 48), bool), source=name)
        for name in "ab"
    )
    return CropSet(
        target=tuple(_disc(8, 0.6, name) for name in "aabb"), unwanted=tuple(_disc(3, 0.9, name) for name in "aabb"),
        backgrounds=grounds,
    )  # fmt: skip


def _mixtures(size_px: int = 48, n: int = 3) -> list[Mixture]:
    composer, rng = Composer(_crops(), SCENE, size_px), np.random.default_rng(0)
    return [composer.draw(level, rng) for level in LEVELS for _ in range(n)]


# --- images whose layers are known ------------------------------------------------------------


def test_layers_add_up_and_the_ground_belongs_to_the_rest() -> None:
    for one in _mixtures():
        assert (one.image == one.target + one.remainder).all()
        # 0.6 less the ground of its image; turning softens the rim, on both sides of the outline.
        assert one.target[one.labels == 0].max() < 0.26 and one.target[one.labels > 0].min() > 0.2
        assert float(np.median(one.target[one.labels > 0])) == pytest.approx(0.5)
        assert float(np.median(one.remainder)) == pytest.approx(0.1)


@pytest.mark.parametrize("level", list(LEVELS))
def test_objects_overlap_as_much_as_asked_for(level: str) -> None:
    least, largest = LEVELS[level]
    composer, rng = Composer(_crops(), SCENE, 48), np.random.default_rng(1)
    shares = []
    for _ in range(12):
        one = composer.draw(level, rng)
        is_other = one.remainder > 0.2
        shares.append((is_other & (one.labels > 0)).sum() / _disc(3, 1.0).area_px)
    if not largest:
        assert max(shares) < 0.1  # rims may touch
    else:
        # One small disc lies on the target; turned discs differ by a few pixels.
        assert 0.8 * least <= np.mean(shares) <= 1.1 * largest
        assert sum(share > 0 for share in shares) >= 10


def test_patches_of_channels_come_in_eight_positions_and_fill_an_image() -> None:
    plane = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    crops = channel_patches([(plane, plane + 1)], 32)
    assert len(crops.target) == len(crops.unwanted) == 4 * 8
    assert all(one.mask.all() and one.mask.shape == (32, 32) for one in crops.target)
    assert len({one.pixels.tobytes() for one in crops.target}) == 32


def _movie(seed: int) -> SyntheticMovie:
    spec = MovieSpec.model_validate(
        {
            "name": "m", "n_moving": [1, 1], "n_still": [1, 1], "step_px": [14, 20],
            "objects": {"train": {}, "test": {}, "diameter_px": [4, 9]},
            "scenes": {"npz": "", "key": "", "channel": 0, "train": [0], "test": [0]},
        }
    )  # fmt: skip
    scene = np.tile(np.linspace(0.2, 0.6, 64, dtype=np.float32), (64, 1))
    small = CropSet(target=(_disc(4, 0.9),), backgrounds=_crops().backgrounds)
    return make_movie([scene], small, spec, 48, 5, np.random.default_rng(seed))


def test_some_objects_move_and_some_never_do() -> None:
    movie = _movie(0)
    assert movie.still == (1,)
    places = [[np.argwhere(frame == n).mean(axis=0) for frame in movie.labels] for n in (1, 2)]
    assert (np.ptp(places[0], axis=0) == 0).all()
    steps = np.linalg.norm(np.diff(places[1], axis=0), axis=1)
    assert steps.min() > 13 and steps.max() < 21
    assert np.abs((movie.frames - movie.scene)[movie.labels == 0]).mean() < 0.03
    assert (movie.frames - movie.scene)[movie.labels > 0].mean() == pytest.approx(0.72, abs=0.12)


# --- scores -----------------------------------------------------------------------------------


def test_a_perfect_way_and_one_that_does_nothing() -> None:
    mixtures = _mixtures(n=1)
    known = {one.image.tobytes(): one for one in mixtures}
    perfect = Way(lambda image: Made(3 * known[image.tobytes()].target + 1, known[image.tobytes()].labels), "")
    rows, example = score_mixtures(perfect, mixtures)
    assert [row["level"] for row in rows] == list(LEVELS)
    assert all(row["correlation"] == pytest.approx(1, abs=1e-5) and row["psnr"] > 80 for row in rows)
    assert all(row["f1"] == row["f1_points"] == 1 for row in rows)
    assert example["heavy/target"].shape == (48, 48)
    nothing = Way(lambda image: Made(np.zeros_like(image), np.zeros(image.shape, np.int32)), "")
    rows, _ = score_mixtures(nothing, mixtures)
    assert all(row["correlation"] == row["f1"] == row["recall"] == 0 for row in rows)


def test_the_median_takes_what_never_moves_for_the_scene() -> None:
    movies = [_movie(seed) for seed in range(3)]
    scores, _, example = score_movies(
        lambda frames: np.repeat(np.median(frames, axis=0)[None], len(frames), axis=0), movies, movies
    )
    assert scores["recall_moving"] > 0.9 and scores["recall_still"] == 0
    assert scores["recall"] == pytest.approx(0.5, abs=0.06) and scores["precision"] > 0.9
    assert scores["bias_still"] == pytest.approx(1, abs=0.1) and abs(scores["bias_moving"]) < 0.1
    scenes = {movie.frames.tobytes(): movie.scene for movie in movies}
    perfect, _, _ = score_movies(
        lambda frames: np.repeat(scenes[frames.tobytes()][None], len(frames), axis=0), movies, movies
    )
    assert perfect["recall_still"] > 0.9 and perfect["bias_still"] == 0 and perfect["scene_error"] == 0
    assert perfect["f1"] > 0.9 and perfect["iou"] > 0.6  # rims softened by turning count as found
    assert set(example) == {"frame", "truth", "scene", "found", "labels", "still"}


# --- ways -------------------------------------------------------------------------------------


def test_settings_are_those_with_the_best_f1() -> None:
    mixtures = _mixtures()
    layers, truths = [one.image for one in mixtures], [one.labels for one in mixtures]
    sized = tuned(layers, truths)
    assert 20 < sized.clean.min_size_px < 200  # between the small discs and the large ones
    assert tuned(layers, truths, has_size=False).clean.min_size_px == 9
    none = [one for one in mixtures if one.level == "none"]
    found = [sized.of(one.image) for one in none]
    assert all(len(np.unique(labels)) == 2 for labels in found)
    few = Objects(clean=replace(sized.clean, min_size_px=9), max_size_px=60)
    assert all(np.bincount(few.of(one.image).ravel())[1:].max(initial=0) <= 60 for one in none)


def test_labels_alone_give_a_layer_above_the_ground() -> None:
    one = _mixtures(n=1)[0]
    layer = _masked(one.image, one.labels).layer
    assert float(np.median(layer[one.labels > 0])) == pytest.approx(0.5) and (layer[one.labels == 0] == 0).all()


def test_dictionaries_of_patches_bring_the_layer_nearer() -> None:
    """Stripes to keep, spots to remove: patches of the two differ."""
    rng = np.random.default_rng(0)
    mixtures = []
    for _ in range(5):
        stripes = np.tile((np.arange(48) % 6 < 2).astype(np.float32), (48, 1))
        spots = np.zeros((48, 48), np.float32)
        for y, x in rng.integers(4, 40, (6, 2)):
            spots[y : y + 6, x : x + 6] = 1
        labels = (stripes > 0).astype(np.int32)
        mixtures.append(Mixture(target=np.roll(stripes, rng.integers(6), 1), remainder=spots, labels=labels, level=""))
    apply = _nmf(mixtures[:4], 0)
    test = mixtures[4]
    before, after = (np.corrcoef(plane.ravel(), test.target.ravel())[0, 1] for plane in (test.image, apply(test.image)))
    assert after > before + 0.1


def test_a_cancel_ends_a_training() -> None:
    mixtures = _mixtures(n=1)
    lesson = Lesson(crops=_crops(), scene=SCENE, learn=mixtures, tune=mixtures)
    request = EvaluateSemanticRequest(n_steps=2, width=4, patch_px=32, scene_px=48, batch_size=2, device="cpu")
    from napari_cellenhance.core.device import DeviceChoice

    choice = DeviceChoice(device="cpu", precision="float32", note="")
    for method in ("semantic", "unet"):
        assert open_way(method, lesson, request, 0, choice, is_cancelled=lambda: True) is None


# --- the whole --------------------------------------------------------------------------------


@pytest.fixture
def request_(tmp_path: Path) -> EvaluateSemanticRequest:
    """Two images to learn from and one to test on, with large and small discs; two planes of two channels."""
    rng, rows = np.random.default_rng(0), []
    yy, xx = np.mgrid[:96, :96]
    with tifffile.TiffWriter(tmp_path / "i.tif") as images, tifffile.TiffWriter(tmp_path / "l.tif") as labels:
        for page in range(3):
            truth = np.zeros((96, 96), np.uint16)
            for k, (y, x) in enumerate((y, x) for y in (16, 48, 80) for x in (16, 48, 80)):
                truth[(yy - y - page) ** 2 + (xx - x) ** 2 <= (64 if k % 2 else 16)] = k + 1
            images.write((20 + 120 * (truth > 0) + rng.integers(0, 6, truth.shape)).astype(np.uint8))
            labels.write(truth)
            split = "train" if page < 2 else "test"
            rows.append({"images": "i.tif", "labels": "l.tif", "page": page, "shape": [96, 96], "split": split})
    (tmp_path / "index.json").write_text(json.dumps(rows), encoding="utf-8")
    discs = (truth > 0) * 100 + 10
    np.savez(tmp_path / "c.npz", both=np.stack([[discs, discs.T[::-1] // 2]] * 2).astype(np.uint8))

    def kind(low: float, high: float) -> dict[str, Any]:
        sources = {
            split: {"name": split, "index": "index.json", "where": {"split": split}} for split in ("train", "test")
        }
        return sources | {"diameter_px": [low, high]}

    planes = {"npz": "c.npz", "key": "both", "train": [0], "test": [1], "license": "CC0-1.0"}
    data = {
        "mixtures": [{"name": "discs", "target": kind(12, 20), "unwanted": kind(5, 11), "n_target": [1, 1]}],
        "channels": [{"name": "two channels", "target": 0, "unwanted": 1} | planes],
        "movies": [
            {"name": "walk", "objects": kind(5, 11), "scenes": {"channel": 1} | planes, "n_moving": [1, 2]}
        ],
    }  # fmt: skip
    (tmp_path / "data.json").write_text(json.dumps(data), encoding="utf-8")
    return EvaluateSemanticRequest(
        data=tmp_path / "data.json", out=tmp_path / "out", seeds=(0,), crops=(2, 4), scene_px=48, patch_px=32,
        n_learn=5, n_tune=1, n_test=1, n_train_movies=3, n_test_movies=1, n_frames=3, n_steps=2, batch_size=2, width=4,
        validate_every=1, device="cpu", precision="float32",
    )  # fmt: skip


def test_what_was_trained_is_not_trained_again(request_: EvaluateSemanticRequest) -> None:
    part = replace(request_, parts=("mixtures", "movies"), methods=("threshold", "semantic"), crops=(4,))
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 4

    first = run(part, is_cancelled=stop)
    assert not first.is_complete
    files = {path.relative_to(request_.out).parts[0] for path in Path(request_.out).rglob("*")}
    assert files <= {"cells", "scores.json", "scores.csv", "scores.md", "pictures.png"}
    told: list[Progress] = []
    second = run(part, on_progress=told.append)
    assert second.is_complete and second.n_found == len(first.cells)
    assert len(second.cells) == 2 + 3
    third = run(part)
    assert third.n_found == len(third.cells) == len(second.cells)
    assert to_markdown(third) == to_markdown(second)
    assert json.loads((Path(request_.out) / "scores.json").read_text(encoding="utf-8"))["is_complete"]
    told_last = [one for one in told if one.n_total][-1]
    assert told_last.n_total == len(second.cells)


def test_every_part_and_method_has_its_row(request_: EvaluateSemanticRequest, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / "m.tif", rng.integers(90, 110, (6, 32, 32)).astype(np.uint8))  # says nothing of time
    result = run(replace(request_, crops=(4,), movies=(tmp_path / "m.tif",), movie_axes="TYX", n_steps=1))
    text = to_markdown(result)
    for word in ("discs", "two channels", "walk", "heavy", "same field", "temporal median", "NMF", "U-Net", "ICA"):
        assert word in text
    assert "m.tif" not in text  # its truth is not known: a picture only
    assert {row["method"] for row in result.rows if row["part"] == "channels"} == {
        "image", "threshold", "nmf", "unet", "semantic",
    }  # fmt: skip
    picture = Path(request_.out) / "pictures.png"
    assert picture.stat().st_size > 10_000
    assert not list(Path(request_.out).rglob("*.tmp*"))


def test_one_filter_of_movies_sees_those_to_test_on_too(
    request_: EvaluateSemanticRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[list[bytes]] = []

    def see(layers: Any, *_: Any, **__: Any) -> None:
        learned.append([np.asarray(layer.image).tobytes() for layer in layers])

    monkeypatch.setattr(_evaluate_semantic_movies, "_learned", see)
    train, test = [_movie(0), _movie(1)], [_movie(2)]
    for method in ("semantic", "own"):
        scene_finder(method, train, test, request_, 0, on_step=lambda _: None, is_cancelled=lambda: False)
    assert learned[0] == [movie.frames.tobytes() for movie in train]
    assert learned[1] == [movie.frames.tobytes() for movie in (*train, *test)]


def test_a_curve_over_the_number_of_crops(request_: EvaluateSemanticRequest) -> None:
    result = run(replace(request_, parts=("mixtures",), methods=("threshold",)))
    assert [cell.n_crops for cell in result.cells] == [2, 4]
    assert "| method | 2 | 4 |" in to_markdown(result)


def test_what_cannot_be_done_is_told(request_: EvaluateSemanticRequest, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no methods called magic"):
        replace(request_, methods=("magic",))
    with pytest.raises(ParameterError, match="multiple of 32"):
        replace(request_, patch_px=40)
    with pytest.raises(ParameterError, match="numbers from 2"):
        replace(request_, crops=(1,))
    with pytest.raises(ParameterError, match="no folder"):
        run(replace(request_, out=""))
    bad = tmp_path / "bad.json"
    bad.write_text('{"mixtures": [{"name": "x", "targets": 1}]}', encoding="utf-8")
    with pytest.raises(ImageError, match="no list of data"):
        run(replace(request_, data=bad))
    data = json.loads(Path(request_.data).read_text(encoding="utf-8"))
    data["mixtures"][0]["target"]["diameter_px"] = [60, 80]
    bad.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ImageError, match="two objects or more"):
        run(replace(request_, data=bad, data_root=tmp_path))


def test_the_list_in_the_repository_is_sound() -> None:
    spec = read_spec(Path(__file__).parents[2] / "training" / "semantic-evaluate.json")
    assert spec.mixtures and spec.channels and spec.movies
    sources = [
        source for one in spec.mixtures for kind in (one.target, one.unwanted) for source in (kind.train, kind.test)
    ]
    assert all(source["license"] for source in sources) and spec.channels[0].license
