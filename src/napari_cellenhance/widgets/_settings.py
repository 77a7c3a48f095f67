"""The preferences of this plugin, as napari keeps them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

__all__ = ["DEVICES", "PLUGIN", "PluginSettings", "read_settings", "settings_from", "write_setting"]

_LOGGER = logging.getLogger(__name__)

PLUGIN = "napari-cellenhance"
DEVICES = ("auto", "cpu", "cuda", "mps", "openvino")


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSettings:
    """Preferences ▸ CellEnhance; the defaults equal those of the manifest.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda``, ``mps`` or ``openvino``.
    memory_limit_mb : int
        Working memory of one plane, in MB; tiles get smaller to keep it.
    cache_folder : str
        Where downloaded models are kept; empty takes the folder of the operating system.
    preview_delay_ms : int
        Shortest time between two updates of the live preview, in ms.
    large_from_mb : int
        Results above this size, in MB, are offered to be written to the disk block by block.
    perception : str
        Perceptual network for training: a file, ``torchvision``, or empty for none.
    """

    device: str = "auto"
    memory_limit_mb: int = 2000
    cache_folder: str = ""
    preview_delay_ms: int = 60
    large_from_mb: int = 4000
    perception: str = ""


def settings_from(general: Any) -> PluginSettings:
    """Read the fields of ``general``; a missing or impossible one takes its default."""
    default = PluginSettings()
    device = str(getattr(general, "device", default.device))
    return PluginSettings(
        device=device if device in DEVICES else default.device,
        memory_limit_mb=_whole(general, "memory_limit_mb", 200),
        cache_folder=str(getattr(general, "cache_folder", default.cache_folder) or ""),
        preview_delay_ms=min(2000, _whole(general, "preview_delay_ms", 0)),
        large_from_mb=_whole(general, "large_from_mb", 10),
        perception=str(getattr(general, "perception", default.perception) or ""),
    )


def _whole(general: Any, name: str, minimum: int) -> int:
    default = getattr(PluginSettings(), name)
    try:
        return max(minimum, int(getattr(general, name, default)))
    except (TypeError, ValueError, OverflowError):
        return int(default)


def read_settings() -> PluginSettings:
    """Read the preferences now; defaults in a napari older than 0.9 or without our manifest."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return PluginSettings()
    try:
        return settings_from(get_plugin_settings(PLUGIN).general)
    except (KeyError, AttributeError, ValueError, OSError) as error:
        _LOGGER.debug("no stored preferences: %s", error)
        return PluginSettings()


def write_setting(name: str, value: str | int) -> bool:
    """Keep one preference; False where napari keeps none for plugins."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return False
    try:
        setattr(get_plugin_settings(PLUGIN).general, name, value)
    except (KeyError, AttributeError, ValueError, OSError) as error:
        _LOGGER.warning("the preference %s could not be kept: %s", name, error)
        return False
    return True
