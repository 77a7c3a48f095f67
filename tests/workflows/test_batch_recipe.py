"""Recipes: to JSON and back, read off results, refused with a sentence, and told apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellenhance.core.errors import ModelNotFoundError, ParameterError
from napari_cellenhance.core.postprocess import CleanOptions
from napari_cellenhance.workflows import enhance
from napari_cellenhance.workflows.batch_recipe import (
    Recipe,
    fingerprint,
    from_record,
    read_recipe,
    sentence,
    step_for_model,
    write_recipe,
)
from napari_cellenhance.workflows.denoise import DEFAULT_DENOISER, DenoiseRequest
from napari_cellenhance.workflows.requests import EnhanceRequest, SegmentOptions, StrengthMap
from napari_cellenhance.workflows.restore import RestoreRequest
from napari_cellenhance.workflows.segment_model import InstanceOptions, SegmentModelRequest
from napari_cellenhance.workflows.separate import SeparateRequest

EMPTY: dict[str, Any] = {"image": None, "axes": ""}
GAMMA = EnhanceRequest(**EMPTY, filter_id="gamma", strength=2.0)
DENOISE = DenoiseRequest(**EMPTY, symmetries=8)
RECIPES = (
    Recipe(steps=(EnhanceRequest(image=None, axes="TYX", filter_id="dog", strength="auto", channels=(0, 2)),)),
    Recipe(steps=(DENOISE, GAMMA), labels=SegmentOptions(method="manual", threshold=0.3), measure=True, dtype="uint8"),
    Recipe(steps=(RestoreRequest(**EMPTY, model_id="mine", repeats=2),), dtype="same"),
    Recipe(steps=(SeparateRequest(**EMPTY, model_id="m", has_objects=True, objects=CleanOptions(closing_px=3)),)),
    Recipe(
        steps=(
            SegmentModelRequest(
                **EMPTY, model_id="m", outputs=frozenset({"classes", "instances"}), instances=InstanceOptions(grow_px=1)
            ),
        ),
        measure=True,
    ),
)


@pytest.mark.parametrize("recipe", RECIPES, ids=sentence)
def test_a_recipe_reads_back(recipe: Recipe, tmp_path: Path) -> None:
    assert read_recipe(write_recipe(tmp_path / "recipe.json", recipe)) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": [{"step": "enhance", "filter_id": "gamma", "strenght": 3}]}, "'strenght'; expected some of"),
        ({"steps": [{"step": "enhance", "filter_id": "gamma", "strength": "much"}]}, "strength is 'much'"),
        ({"steps": [{"step": "restore"}]}, "names no model"),
        ({"steps": [{"step": "dance"}]}, "expected one of enhance, denoise"),
        ({"steps": []}, "no step"),
        ({"steps": "gamma"}, "list of steps"),
        ({"steps": [{"step": "segment", "model_id": "m", "instances": {"growpx": 1}}]}, "'growpx'"),
        ({"steps": [{"step": "denoise", "model_id": "m", "symmetries": 3}]}, "symmetries is 3"),
        ({"steps": [{"step": "enhance", "filter_id": "gamma", "device": "cuda"}]}, "'device'"),
        ({"labels": {"method": "otsu", "split": True}}, "'split'"),
        ({"measure": True}, "no objects to measure"),
        ({"dtype": "same"}, "does not go with"),
        ({"colour": 1}, "'colour'"),
        ({"cellenhance_recipe": 2}, "of version 2"),
    ],
)
def test_mistakes_are_one_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Recipe.from_dict(Recipe(steps=(GAMMA,)).to_dict() | change)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"steps": []}'])
def test_other_files_are_no_recipes(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ParameterError, match=r"r\.json"):
        read_recipe(tmp_path / "r.json")


def test_as_a_result_was_made_with_all_its_steps() -> None:
    """Two steps on one image; the recipe read off the second one makes the same pixels."""
    image = np.random.default_rng(0).integers(0, 255, (16, 18), dtype=np.uint8)
    first = enhance.run(replace(GAMMA, image=image, axes="YX", channels="grey"))
    options = SegmentOptions(min_size_px=4)
    second = enhance.run(
        EnhanceRequest(
            image=first.image, axes="YX", filter_id="dog", objects_are_dark=True, segment=options,
            earlier=first.provenance,
        )
    )  # fmt: skip
    recipe = from_record(json.loads(json.dumps(second.provenance)))
    assert [step.filter_id for step in recipe.steps if isinstance(step, EnhanceRequest)] == ["gamma", "dog"]
    assert recipe.labels == options
    one, two = recipe.steps
    again = enhance.run(replace(one, image=image, axes="YX"))  # type: ignore[arg-type]
    again = enhance.run(replace(two, image=again.image, axes="YX"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.image, second.image)


def test_what_cannot_be_repeated_is_said() -> None:
    image = np.arange(256, dtype=np.float32).reshape(16, 16)
    mapped = replace(GAMMA, image=image, axes="YX", strength_map=StrengthMap(values=np.ones((16, 16))))
    with pytest.raises(ParameterError, match="strengths by region"):
        from_record(enhance.run(mapped).provenance)
    with pytest.raises(ParameterError, match="not made by a filter"):
        from_record({"software": "napari-cellenhance", "step": "synthesize"})


def test_a_model_knows_what_it_is_for() -> None:
    assert isinstance(step_for_model("dog"), EnhanceRequest)
    assert isinstance(step_for_model(DEFAULT_DENOISER), DenoiseRequest)
    assert isinstance(step_for_model("aep-nuclei"), SegmentModelRequest)
    with pytest.raises(ModelNotFoundError):
        step_for_model("nobody")


def test_every_setting_counts_but_not_the_machine() -> None:
    plain = fingerprint(Recipe(steps=(GAMMA,)))
    assert plain == fingerprint(Recipe(steps=(replace(GAMMA, device="cuda", tile_px=64),)))
    others = [
        Recipe(steps=(replace(GAMMA, strength=2.5),)), Recipe(steps=(GAMMA, GAMMA)),
        Recipe(steps=(GAMMA,), labels=SegmentOptions()), Recipe(steps=(GAMMA,), dtype="uint8"),
    ]  # fmt: skip
    assert len({plain, *map(fingerprint, others)}) == 5
