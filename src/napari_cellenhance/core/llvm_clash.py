"""Keeps Triton out of a process whose window is drawn by Mesa's software OpenGL.

Each of the two brings an LLVM of its own, and loading the second one ends the process with a segmentation fault.
CUDA builds of torch come with Triton and import it with the first optimiser, although nothing here is compiled by it.
Mesa's software renderer is at work where no driver of a graphics card draws the window: in a remote desktop, on a
cluster, in a virtual machine. Without Triton torch does everything but ``torch.compile`` on the card.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

__all__ = ["MAPS", "avoid_llvm_clash"]

MAPS = Path("/proc/self/maps")
"""What is loaded into this process; Linux only, and Triton is there on Linux only."""

_LOGGER = logging.getLogger(__name__)
_TRITON, _MESAS_LLVM = "triton", "libLLVM"


def avoid_llvm_clash() -> bool:
    """Make ``import triton`` fail as if it were not installed, where it would end the process.

    Returns
    -------
    bool
        Whether it was kept out, now or before. Where Triton is loaded already, or Mesa's LLVM is not, nothing changes.
    """
    if _TRITON in sys.modules:
        return sys.modules[_TRITON] is None
    if not MAPS.exists() or importlib.util.find_spec(_TRITON) is None:
        return False
    if _MESAS_LLVM not in MAPS.read_text(encoding="utf-8", errors="replace"):
        return False
    _LOGGER.warning("Triton is not loaded: beside Mesa's software OpenGL, which draws this window, it ends the program")
    sys.modules[_TRITON] = None  # type: ignore[assignment]
    return True
