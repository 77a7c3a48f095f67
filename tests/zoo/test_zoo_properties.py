"""Whatever JSON a manifest or a card holds: a card comes out, or one sentence."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_cellenhance.core.errors import ManifestError
from napari_cellenhance.zoo.cards import ModelCard
from napari_cellenhance.zoo.manifest import load_manifest, read_manifest, read_user_card, user_card_bytes

few = settings(
    max_examples=50, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
TREES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
)


@few
@given(TREES)
def test_any_json_is_a_manifest_or_one_sentence(tmp_path: Path, tree: Any) -> None:
    for wrapped in (
        tree,
        {"schema_version": 1, "models": tree},
        {"schema_version": tree},
        {"schema_version": 1, "model": tree},
    ):
        path = tmp_path / "card.json"
        path.write_text(json.dumps(wrapped), encoding="utf-8")
        for read in (read_manifest, read_user_card):
            with suppress(ManifestError):
                read(path)


@few
@given(st.binary(max_size=60))
def test_any_bytes_are_one_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(data)
    for read in (read_manifest, read_user_card):
        with pytest.raises(ManifestError, match=r"card\.json"):
            read(path)


@few
@given(st.data())
def test_a_card_with_any_value_is_that_card_or_one_sentence(
    tmp_path: Path, card_fields: dict[str, Any], data: st.DataObject
) -> None:
    fields = {**card_fields, "file": {**card_fields["file"], "url": None}}
    name = data.draw(st.sampled_from(sorted(fields)))
    changed = {**fields, name: data.draw(TREES)}
    folder = tmp_path / "models"
    folder.mkdir(exist_ok=True)
    path = folder / "tiny-net.json"
    path.write_text(json.dumps({"schema_version": 1, "model": changed}), encoding="utf-8")
    try:
        card = read_user_card(path)
    except ManifestError:
        assert any("tiny-net.json" in problem for problem in load_manifest(user_models=folder).problems)
    else:
        assert isinstance(card, ModelCard)
        path.write_bytes(user_card_bytes(card))
        assert read_user_card(path) == card
