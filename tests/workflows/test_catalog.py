"""The list of filters, and opening one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from napari_cellenhance.core.errors import ModelNotFoundError
from napari_cellenhance.core.recipes.classical import CLASSICAL
from napari_cellenhance.core.recipes.protocol import Enhancer
from napari_cellenhance.workflows import catalog


def test_models_come_before_classical_filters_and_ids_are_unique(seeded_model: str) -> None:
    infos = catalog.list_filters()
    ids = [info.id for info in infos]
    assert len(set(ids)) == len(ids)
    assert seeded_model in ids
    groups = [info.group for info in infos]
    assert groups == sorted(groups, key=["NU-Net", "Denoising", "Restoration", "Keep only…", "AEP", "Classical"].index)
    assert {info.id for info in CLASSICAL} <= set(ids)


def test_a_model_is_described_by_its_card(seeded_model: str) -> None:
    spec = catalog.describe(seeded_model)
    assert spec.info.title == "Seeded"
    assert spec.info.reference == "Nobody 2026"
    assert spec.info.strength.default == 6.0
    assert spec.info.strength.knots == (0.0, 5.0, 10.0)
    assert spec.info.strength.label
    assert spec.info.strength.help
    assert spec.normalizer == "percentile"
    assert dict(spec.normalizer_settings) == {"lo": 0.1, "hi": 99.9, "clip": True}
    assert spec.identity_below == 2.0
    assert len(spec.sha256) == 64


@pytest.mark.parametrize("info", CLASSICAL, ids=lambda info: info.id)
def test_every_classical_filter_opens_on_the_cpu(info: catalog.FilterInfo) -> None:
    opened = catalog.open_enhancer(info.id, device="cuda")
    assert isinstance(opened.enhancer, Enhancer)
    assert opened.info.id == info.id
    assert opened.choice.device == "cpu"
    assert not opened.choice.is_fallback
    assert opened.bytes_per_px > 0


def test_a_model_opens_with_the_asked_device_and_memory(seeded_model: str) -> None:
    opened = catalog.open_enhancer(seeded_model, "cpu", "bfloat16", memory_limit_mb=123)
    assert isinstance(opened.enhancer, Enhancer)
    assert (opened.choice.device, opened.choice.precision) == ("cpu", "bfloat16")
    assert opened.memory_limit_mb == 123
    assert opened.bytes_per_px < catalog.open_enhancer(seeded_model, "cpu", "float32").bytes_per_px


def test_a_filter_moves_to_the_cpu_and_to_less_memory_without_loading_again(seeded_model: str) -> None:
    opened = catalog.open_enhancer(seeded_model, "cpu", "bfloat16")
    moved = opened.on_cpu("a reason")
    assert (moved.choice.device, moved.choice.precision) == ("cpu", "float32")
    assert "a reason" in moved.choice.note
    assert moved.choice.is_fallback
    smaller = opened.with_memory(50)
    assert smaller.memory_limit_mb == 50
    assert smaller.module is moved.module is opened.module


def test_an_unknown_filter_is_refused_with_the_known_ones() -> None:
    for look_up in (catalog.describe, catalog.open_enhancer):
        with pytest.raises(ModelNotFoundError, match=r"no filter 'foo'.*gamma"):
            look_up("foo")


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys; from napari_cellenhance.workflows import catalog, enhance, preview, requests; "
        "catalog.list_filters(); catalog.describe('gamma'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
