"""The choice of processor and precision, with probes that lie."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from napari_cellenhance.core import device
from napari_cellenhance.core.device import Bf16Verdict, bf16_verdict, choose_device, is_out_of_memory
from napari_cellenhance.core.errors import DeviceError, ParameterError


@pytest.fixture(autouse=True)
def fresh_probes() -> Iterator[None]:
    """Forget what earlier tests found out, and what this one made believe."""
    probes = (device.bf16_verdict, device.device_refusal)
    for probe in probes:
        probe.cache_clear()
    yield
    for probe in probes:
        probe.cache_clear()


@pytest.fixture
def cpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("cpu_only")
def test_auto_without_a_gpu_is_the_cpu_and_no_fallback() -> None:
    choice = choose_device("auto", "float32")
    assert (choice.device, choice.precision, choice.is_fallback) == ("cpu", "float32", False)
    assert choice.note.startswith("running on CPU")
    assert choice.dtype == torch.float32


@pytest.mark.usefixtures("cpu_only")
@pytest.mark.parametrize("requested", ["cuda", "cuda:1", "mps"])
def test_missing_gpu_falls_back_to_the_cpu_and_says_why(requested: str) -> None:
    choice = choose_device(requested, "float32")
    assert choice.device == "cpu"
    assert choice.is_fallback
    assert f"{requested} was asked" in choice.note


@pytest.mark.parametrize(
    ("result", "reason"),
    [(RuntimeError("no kernel image is available"), "no kernel image"), (torch.zeros(1, 8, 14, 14), "wrong numbers")],
)
def test_gpu_that_cannot_convolve_is_not_used(
    monkeypatch: pytest.MonkeyPatch, result: RuntimeError | torch.Tensor, reason: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    def probe(_: str) -> bool:
        if isinstance(result, RuntimeError):
            raise result
        return False

    monkeypatch.setattr(device, "_probe_is_right", probe)
    choice = choose_device("cuda", "float32")
    assert choice.device == "cpu"
    assert reason in choice.note
    assert choose_device("auto", "float32").device == "cpu"


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")])
def test_usable_gpu_is_chosen_in_what_it_multiplies_natively(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda name: capability)
    monkeypatch.setattr(device, "device_refusal", lambda name: None if name.startswith("cuda") else "absent")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: "Test GPU")
    choice = choose_device("auto", "auto")
    assert (choice.device, choice.precision) == ("cuda", precision)
    assert "Test GPU" in choice.note


def test_float32_on_a_gpu_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN would round the factors to 10 bits of mantissa otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(device, "device_refusal", lambda name: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: "Test GPU")
    assert choose_device("cpu", "float32").device == "cpu" and torch.backends.cudnn.allow_tf32
    assert choose_device("cuda:0", "float32").device == "cuda:0" and not torch.backends.cudnn.allow_tf32


def test_mps_computes_in_float32_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "device_refusal", lambda name: None)
    choice = choose_device("mps", "bfloat16")
    assert (choice.device, choice.precision, choice.is_fallback) == ("mps", "float32", True)
    for precision in ("auto", "float32"):
        choice = choose_device("mps", precision)
        assert (choice.device, choice.precision, choice.is_fallback) == ("mps", "float32", False)


def test_probe_accepts_the_cpu_itself() -> None:
    assert device._probe_is_right("cpu")


@pytest.mark.parametrize(("is_fast", "precision"), [(True, "bfloat16"), (False, "float32")])
@pytest.mark.usefixtures("cpu_only")
def test_auto_precision_follows_the_probe(monkeypatch: pytest.MonkeyPatch, is_fast: bool, precision: str) -> None:
    monkeypatch.setattr(device, "bf16_verdict", lambda: Bf16Verdict(is_fast, "test"))
    assert choose_device("cpu").precision == precision
    assert choose_device("cpu", "bfloat16").precision == "bfloat16"


def test_bf16_without_native_arithmetic_is_slow_by_decree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_has_native_bf16", lambda: False)
    verdict = bf16_verdict()
    assert not verdict.is_fast
    assert "without native bf16" in verdict.reason


@pytest.mark.usefixtures("cpu_only")
def test_native_bf16_is_what_torch_says_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert not device._has_native_bf16()
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert device._has_native_bf16() is torch.backends.mkldnn.is_available()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not device._has_native_bf16(), "torch was built without the library that multiplies in bf16"


def test_native_bf16_is_taken_without_a_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timed choice flips on a busy machine, and equal requests then differ in their pixels."""
    monkeypatch.setattr(device, "_has_native_bf16", lambda: True)
    clock = iter([0.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert bf16_verdict().is_fast
    assert choose_device("auto").precision == "bfloat16"


@pytest.mark.parametrize("requested", ["tpu", "cuda:x", "", "cpu0"])
def test_unknown_devices_are_refused(requested: str) -> None:
    with pytest.raises(DeviceError, match="expected auto, cpu"):
        choose_device(requested)


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(ParameterError):
        choose_device("cpu", "float16")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_memory_shortage_is_told_from_other_failures(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
