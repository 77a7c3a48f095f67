"""Where the networks run: pick a processor and a precision, and say why.

Nothing is probed at import; the probes are cached because a processor does not change
while a program runs.
"""

from __future__ import annotations

import functools
import logging
import platform
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F

from napari_cellenhance.core.errors import DeviceError, ParameterError

__all__ = ["DeviceChoice", "Precision", "bf16_verdict", "choose_device", "is_out_of_memory"]

_LOGGER = logging.getLogger(__name__)

Precision = Literal["float32", "bfloat16"]

_SHORTAGE = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChoice:
    """A processor that passed its probe.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda``, ``cuda:N`` or ``mps``, as torch names it, or ``openvino``: the CPU, by OpenVINO.
    precision : "float32" or "bfloat16"
    note : str
        A sentence for the user: "running on …", and why if it is not what was asked.
    is_fallback : bool
        True where the asked device or precision could not be used.
    """

    device: str
    precision: Precision
    note: str
    is_fallback: bool = False

    @property
    def torch_device(self) -> str:
        """Where the tensors live: ``openvino`` computes on the CPU's."""
        return "cpu" if self.device == "openvino" else self.device

    @property
    def dtype(self) -> torch.dtype:
        """The torch type of ``precision``."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


def choose_device(requested: str = "auto", precision: str = "auto") -> DeviceChoice:
    """Choose a processor; a device that fails its probe is replaced by the CPU, with the reason.

    Parameters
    ----------
    requested : str
        ``auto`` (first usable of CUDA, MPS, CPU), ``cpu``, ``cuda``, ``cuda:N``, ``mps`` or ``openvino``.
    precision : str
        ``auto`` (bf16 on a CPU or CUDA device that computes it natively, float32 elsewhere),
        ``float32`` or ``bfloat16``. MPS computes in float32 only.

    Raises
    ------
    DeviceError
        A name that no device has.
    ParameterError
        An unknown precision.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise ParameterError(f"precision is {precision!r}; expected auto, float32 or bfloat16")
    name = requested.strip().lower()
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps", "openvino") or (index and not index.isdigit()):
        raise DeviceError(f"device is {requested!r}; expected auto, cpu, cuda, cuda:N, mps or openvino")
    candidates = ["cuda", "mps"] if kind == "auto" else [name] if kind != "cpu" else []
    refusals = []
    for candidate in candidates:
        refusal = device_refusal(candidate)
        if refusal is None:
            if candidate.startswith("cuda"):
                _take_float32_at_its_word()
            return _with_precision(candidate, precision, "")
        refusals.append(refusal)
    why = "" if kind in ("auto", "cpu") else f"{requested} was asked, but {refusals[0]}"
    return _with_precision("cpu", precision, why)


def _take_float32_at_its_word() -> None:
    """Convolve float32 in float32: by default cuDNN rounds the factors to TF32, 10 bits of mantissa.

    Who wants speed takes bfloat16, which is faster still.
    """
    torch.backends.cudnn.allow_tf32 = False


def _with_precision(device: str, precision: str, why: str) -> DeviceChoice:
    reasons = [why] if why else []
    if device == "mps":
        chosen: Precision = "float32"
        if precision == "bfloat16":
            reasons.append("bfloat16 is not used on MPS")
    elif precision == "auto":
        chosen = "bfloat16" if _is_bf16_native(device) else "float32"
    else:
        chosen = cast(Precision, precision)
    label = f"running on {_title(device)}, {chosen}"
    note = label + (f" ({'; '.join(reasons)})" if reasons else "")
    return DeviceChoice(device=device, precision=chosen, note=note, is_fallback=bool(reasons))


def _is_bf16_native(device: str) -> bool:
    if not device.startswith("cuda"):
        return bf16_verdict().is_fast
    # Ampere and later multiply bf16 in their tensor cores.
    return torch.cuda.get_device_capability(device) >= (8, 0)


def _title(device: str) -> str:
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)} ({device})"
    if device == "mps":
        return "Apple GPU (mps)"
    n = torch.get_num_threads()
    return f"CPU{' with OpenVINO' if device == 'openvino' else ''}, {n} thread{'' if n == 1 else 's'}"


@functools.cache
def device_refusal(device: str) -> str | None:
    """Reason why a GPU or OpenVINO cannot be used; None for a GPU whose small convolution gives the right numbers."""
    if device == "openvino":
        return _openvino_refusal()
    if device.startswith("cuda") and not torch.cuda.is_available():
        return "this PyTorch sees no CUDA device (no NVIDIA GPU, its driver is too old, or a CPU-only build)"
    if device == "mps" and not torch.backends.mps.is_available():
        return "this PyTorch sees no Apple GPU"
    try:
        return None if _probe_is_right(device) else "a test convolution returned wrong numbers"
    except (RuntimeError, AssertionError) as error:
        _LOGGER.warning("probe of %s failed", device, exc_info=True)
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return f"a test convolution failed: {first_line}"


def _openvino_refusal() -> str | None:
    try:
        import openvino

        has_cpu = "CPU" in openvino.Core().available_devices
    except ImportError:
        return 'OpenVINO is not installed; run pip install "napari-cellenhance[openvino]"'
    except (RuntimeError, OSError) as error:
        _LOGGER.warning("OpenVINO does not start", exc_info=True)
        return f"OpenVINO does not start: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
    return None if has_cpu else "this OpenVINO has no CPU plugin"


def _probe_is_right(device: str) -> bool:
    x = torch.linspace(-1.0, 1.0, 8 * 16 * 16).reshape(1, 8, 16, 16)
    weight = torch.linspace(-0.5, 0.5, 8 * 8 * 9).reshape(8, 8, 3, 3)
    with torch.inference_mode():
        expected = F.conv2d(x, weight)
        found = F.conv2d(x.to(device), weight.to(device)).cpu()
    # TF32 keeps 10 bits of mantissa: a loose bound, it only has to catch garbage.
    return bool(torch.isfinite(found).all()) and float((found - expected).abs().max()) < 0.05


@dataclass(frozen=True, slots=True)
class Bf16Verdict:
    """Whether this CPU multiplies bf16 natively, and a sentence that says so."""

    is_fast: bool
    reason: str


@functools.cache
def bf16_verdict() -> Bf16Verdict:
    """Ask the CPU for native bf16 arithmetic.

    Without it bf16 is several times slower than float32. The answer is never timed: on a busy machine a
    race would turn out differently each time, and with it the pixels of two equal requests.
    """
    if _has_native_bf16():
        return Bf16Verdict(True, f"{platform.machine()} CPU with native bf16 arithmetic")
    return Bf16Verdict(False, f"{platform.machine()} CPU without native bf16 arithmetic")


def _has_native_bf16() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    probes = (getattr(torch.cpu, "_is_avx512_bf16_supported", None), getattr(torch.cpu, "_is_amx_tile_supported", None))
    return any(bool(probe()) for probe in probes if probe is not None)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell memory shortage from other failures; torch raises plain RuntimeErrors for the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SHORTAGE)
