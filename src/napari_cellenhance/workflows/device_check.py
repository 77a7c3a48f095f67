"""The choice of a device, with a comparison with the CPU before a graphics card is used for the first time."""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.io.json_ready import load_json
from napari_cellenhance.zoo.cache import cache_dir

if TYPE_CHECKING:
    from napari_cellenhance.core.device import DeviceChoice
    from napari_cellenhance.core.self_test import SelfTest

__all__ = ["CHECKS", "choose_checked_device", "forget_checks"]

CHECKS = "device-checks.json"
"""File in the cache folder: devices that passed, with the versions they passed with."""
_LOGGER = logging.getLogger(__name__)


def choose_checked_device(requested: str = "auto", precision: str = "auto", *, cache_folder: str = "") -> DeviceChoice:
    """Choose a device as ``core.device.choose_device`` does; a graphics card that computes wrongly is not used.

    A built-in tile goes through a small network on the card and on the CPU, once per process. That a card passed is
    kept in the cache folder, for this card and these versions; that it failed is not, as a new driver may mend it.

    Parameters
    ----------
    requested, precision : str
        See there.
    cache_folder : str
        Preferred cache folder; empty takes the system's.

    Raises
    ------
    DeviceError, ParameterError
        As there.
    """
    from napari_cellenhance.core.device import choose_device

    choice = choose_device(requested, precision)
    if choice.torch_device == "cpu":
        return choice
    verdict = _verdict(choice.device, choice.precision, str(cache_dir(cache_folder or None)))
    if verdict.is_right:
        return choice
    _LOGGER.warning("self-test of %s: %s", choice.device, verdict.reason)
    on_cpu = choose_device("cpu", precision)
    note = (
        f"{on_cpu.note} ({choice.device} is not used, because it computes wrongly: {verdict.reason}; update its driver "
        "or PyTorch)"
    )
    return replace(on_cpu, note=note, is_fallback=True)


def forget_checks() -> None:
    """Forget what this process found out; the file stays."""
    _verdict.cache_clear()


@functools.cache
def _verdict(device: str, precision: str, folder: str) -> SelfTest:
    from napari_cellenhance.core.self_test import SelfTest, self_test

    path, key = Path(folder) / CHECKS, _key(device, precision)
    passed = _read(path)
    if key in passed:
        return SelfTest(True, float(passed[key]))
    verdict = self_test(device, has_bfloat16=precision == "bfloat16")
    if verdict.is_right:
        _keep(path, passed | {key: verdict.max_difference})
    return verdict


def _key(device: str, precision: str) -> str:
    """Card, versions and precision."""
    import torch

    from napari_cellenhance import __version__

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return f"{name}, {precision}, torch {torch.__version__}, cuda {torch.version.cuda}, cellenhance {__version__}"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = load_json(path)
    except (OSError, ValueError):
        return {}  # none yet, or damaged: test again
    return {k: v for k, v in found.items() if isinstance(v, int | float)} if isinstance(found, dict) else {}


def _keep(path: Path, passed: dict[str, Any]) -> None:
    from napari_cellenhance.io.reports import write_json

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, passed)
    except (OSError, CellEnhanceError) as error:
        _LOGGER.debug("%s cannot be written (%s); the test runs again next time", path, error)
