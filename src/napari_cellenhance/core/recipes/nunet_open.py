"""Which of the ways to run a NU-Net fits its norms and the device."""

from __future__ import annotations

from napari_cellenhance.core.device import DeviceChoice
from napari_cellenhance.core.models.nunet import NUNet
from napari_cellenhance.core.recipes.nunet_enhancer import NUNetEnhancer
from napari_cellenhance.core.recipes.nunet_frozen import FrozenEnhancer
from napari_cellenhance.core.recipes.protocol import FilterInfo

__all__ = ["AnyNUNetEnhancer", "open_nunet"]

AnyNUNetEnhancer = NUNetEnhancer | FrozenEnhancer


def open_nunet(
    module: NUNet, *, info: FilterInfo, choice: DeviceChoice, memory_limit_mb: int = 2000
) -> AnyNUNetEnhancer:
    """Filter of a trained network; the network is copied.

    Parameters
    ----------
    choice : DeviceChoice
        Device and precision; with ``openvino`` the heavy part runs there.
    memory_limit_mb : int
        Working memory to keep to.
    """
    make: type[AnyNUNetEnhancer]
    if module.norm == "frozen":
        make = FrozenEnhancer
        if choice.device == "openvino":
            from napari_cellenhance.core.recipes.nunet_openvino import FrozenOpenVINOEnhancer

            make = FrozenOpenVINOEnhancer
    else:
        make = NUNetEnhancer
        if choice.device == "openvino":
            from napari_cellenhance.core.recipes.nunet_openvino import OpenVINOEnhancer

            make = OpenVINOEnhancer
    return make(module, info, choice, memory_limit_mb=memory_limit_mb)
