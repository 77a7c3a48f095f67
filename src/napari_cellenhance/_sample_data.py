"""File ▸ Open Sample ▸ CellEnhance: three real images that ship with the package.

Their origin and licences are told in ``samples/README.md``. No network, no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["histology", "ht29", "nuclei", "sample_path"]

LayerData = tuple[Any, dict[str, Any], str]
_LABELS = {"T": "time", "C": "channel", "Z": "z", "Y": "y", "X": "x"}


def sample_path(key: str) -> Path:
    """File of a sample: ``nuclei``, ``histology`` or ``ht29``.

    Raises
    ------
    LookupError
        No such sample.
    """
    path = Path(__file__).parent / "samples" / f"{key}.tif"
    if not path.is_file():
        raise LookupError(f"there is no sample {key!r} in {path.parent}")
    return path


def _open(key: str, name: str, **settings: Any) -> list[LayerData]:
    from napari_cellenhance.io.images import read

    file = read(sample_path(key))
    labels = tuple(_LABELS[letter] for letter in file.axes if letter != "S")
    return [(file.image, {"name": name, "axis_labels": labels, "rgb": "S" in file.axes, **settings}, "image")]


def nuclei() -> list[LayerData]:
    """Dim fluorescent nuclei, YX, uint8."""
    return _open("nuclei", "nuclei", colormap="gray")


def histology() -> list[LayerData]:
    """Stained tissue, RGB, uint8: nuclei are darker than the ground."""
    return _open("histology", "histology")


def ht29() -> list[LayerData]:
    """HT29 cells, CYX, uint8: DNA, phospho-histone H3, actin."""
    return _open("ht29", "HT29 cells", colormap="gray")
