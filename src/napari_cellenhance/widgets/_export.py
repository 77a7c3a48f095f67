"""The npe2 writer: an image layer → OME-TIFF with axes, pixel size and provenance."""

from __future__ import annotations

from typing import Any

from napari_cellenhance.core.axes import guess_axes
from napari_cellenhance.widgets._layers import pixel_sizes
from napari_cellenhance.widgets._results import METADATA_KEY

__all__ = ["layer_axes", "layer_pixel_sizes", "write_ome_tiff"]


def layer_axes(shape: tuple[int, ...], meta: dict[str, Any]) -> str:
    """Axes of a layer: those of its own recipe if they fit, else its labels, else a guess."""
    recipe = (meta.get("metadata") or {}).get(METADATA_KEY) or {}
    axes = str(recipe.get("axes_out", ""))
    if len(axes) == len(shape) and (axes[-1:] == "S") == bool(meta.get("rgb")):
        return axes
    labels = tuple(str(label) for label in meta.get("axis_labels") or ())
    return guess_axes(shape, is_rgb=bool(meta.get("rgb")), labels=labels).axes


def layer_pixel_sizes(axes: str, meta: dict[str, Any]) -> dict[str, float]:
    """Pixel size by axis letter, in µm (``T``: s), from the layer's scale and units."""
    scale = meta.get("scale")
    units = meta.get("units")
    if scale is None or units is None:
        return {}
    units = [units] * len(scale) if isinstance(units, str) else list(units)
    return pixel_sizes([float(step) for step in scale], [str(unit) for unit in units], axes)


def write_ome_tiff(path: str | None = None, data: Any = None, meta: dict[str, Any] | None = None) -> list[str]:
    """Write one image layer; napari calls it from File ▸ Save and ``layer.save``.

    From the command palette it comes without arguments: then the selected image is saved where
    the user says.

    Parameters
    ----------
    path : str
    data : array-like
        Pixels; of a multiscale layer the levels, of which the first is written.
    meta : dict
        Layer attributes as napari gives them.

    Returns
    -------
    list of str
        The file written; empty if nothing was.

    Raises
    ------
    CellEnhanceError, OSError
        It cannot be written; an existing file is left as it was.
    """
    if path is None:
        from napari_cellenhance.widgets._commands import save_selected

        return save_selected()
    from napari_cellenhance.io.images import write

    meta = meta or {}
    pixels = data[0] if meta.get("multiscale") else data
    axes = layer_axes(tuple(int(n) for n in pixels.shape), meta)
    written = write(
        path,
        pixels,
        axes,
        pixel_size_um=layer_pixel_sizes(axes, meta),
        provenance=(meta.get("metadata") or {}).get(METADATA_KEY),
        dtype="keep",
        overwrite=True,  # napari has asked already
    )
    return [str(written)]
