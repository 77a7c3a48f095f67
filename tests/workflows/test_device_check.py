"""A graphics card that computes wrongly is found out and not used; one that passed is not asked again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_cellenhance.core import device, self_test
from napari_cellenhance.workflows import device_check, enhance
from napari_cellenhance.workflows.requests import EnhanceRequest
from napari_cellenhance.zoo.cache import cache_dir

TRUE_COMPUTE = self_test._compute


class Card:
    """A pretended graphics card, with an error to add and a count of what it was asked."""

    def __init__(self) -> None:
        self.error = 0.0
        self.failure = ""
        self.n_asked = 0

    def compute(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        if name == "cpu":
            return TRUE_COMPUTE("cpu", dtype)
        self.n_asked += 1
        if self.failure:
            raise RuntimeError(self.failure)
        return TRUE_COMPUTE("cpu", dtype) + self.error


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    card = Card()
    monkeypatch.setattr(device, "device_refusal", lambda name: None if name.startswith("cuda") else "absent")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: "Pretended GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda name: (8, 0))
    monkeypatch.setattr(self_test, "_compute", card.compute)
    device_check.forget_checks()
    yield card
    device_check.forget_checks()


def test_the_cpu_passes_its_own_test_in_both_precisions() -> None:
    verdict = self_test.self_test("cpu", has_bfloat16=True)
    assert verdict.is_right and verdict.max_difference < 0.03
    picture = TRUE_COMPUTE("cpu", torch.float32)
    assert float(picture.max() - picture.min()) > 0.2  # it shows something: an error would be seen


def test_a_card_that_is_right_is_used_and_asked_once(card: Card) -> None:
    assert device_check.choose_checked_device("auto").device == "cuda"
    n = card.n_asked
    assert n == 2  # float32 and bfloat16
    device_check.choose_checked_device("cuda")
    device_check.forget_checks()  # as in another process
    assert device_check.choose_checked_device("auto").device == "cuda" and card.n_asked == n
    text = (Path(cache_dir(None)) / device_check.CHECKS).read_text()
    assert "Pretended GPU, bfloat16, torch" in text


@pytest.mark.parametrize(
    ("error", "failure", "reason"),
    [(0.2, "", "differs from the CPU by 0.2"), (np.nan, "", "no numbers"), (0.0, "no kernel", "failed: no kernel")],
)
def test_a_card_that_is_wrong_is_not_used_and_the_user_is_told(
    card: Card, seeded_model: str, error: float, failure: str, reason: str
) -> None:
    card.error, card.failure = error, failure
    image = np.arange(24 * 28, dtype=np.float32).reshape(24, 28) % 7
    result = enhance.run(EnhanceRequest(image=image, axes="YX", filter_id=seeded_model, device="cuda"))
    assert result.provenance["device"] == "cpu"
    (warning,) = (one for one in result.warnings if "cuda" in one)
    assert "cuda is not used, because it computes wrongly" in warning and reason in warning
    assert not (Path(cache_dir(None)) / device_check.CHECKS).exists()  # a new driver may mend it
    card.error, card.failure = 0.0, ""
    device_check.forget_checks()
    assert device_check.choose_checked_device("cuda").device == "cuda"


def test_a_damaged_file_of_checks_is_no_obstacle(card: Card) -> None:
    path = Path(cache_dir(None)) / device_check.CHECKS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{", encoding="utf-8")
    assert device_check.choose_checked_device("cuda", "float32").device == "cuda"
    assert card.n_asked == 1 and "float32" in path.read_text()
