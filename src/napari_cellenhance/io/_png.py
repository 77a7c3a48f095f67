"""PNG through Pillow: one plane, 8 or 16 bits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.io.json_ready import json_ready, parse_json
from napari_cellenhance.io.pixels import StoredDtype, convert

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["convert_for_png", "read_png", "read_png_provenance", "write_png"]

_PROVENANCE = "cellenhance-provenance"
_PIXEL_SIZE = "cellenhance-pixel-size-um"
_DESCRIPTION = "Description"
_COLOUR_TYPES_OF_MORE_SAMPLES = (2, 4, 6)


def read_png(source: Path) -> dict[str, Any]:
    """Fields of ``ImageFile`` of a PNG file."""
    opened = _open(source)
    notes: list[str] = []
    if _is_deep_colour(source):
        notes.append("The file has 16 bits per colour; 8 bits were read. Use TIFF to keep all of them.")
    if opened.mode in ("LA", "La"):
        opened = opened.convert("L")
        notes.append("The transparency of the grey image was dropped.")
    elif opened.mode in ("P", "PA"):
        opened = opened.convert("RGBA" if "transparency" in opened.info or opened.mode == "PA" else "RGB")
    image = np.asarray(opened)
    if image.dtype.kind == "i":
        image = image.astype(np.uint16)  # older Pillow opens 16-bit grey as int32
    text = _text(opened)
    sizes = _json_dict(text.get(_PIXEL_SIZE)) or {}
    return {
        "image": image,
        "axes": "YX" if image.ndim == 2 else "YXS",
        "pixel_size_um": {str(k): float(v) for k, v in sizes.items() if isinstance(v, (int, float))},
        "description": text.get(_DESCRIPTION, ""),
        "notes": tuple(notes),
        "provenance": _json_dict(text.get(_PROVENANCE)),
    }


def read_png_provenance(source: Path) -> dict[str, Any] | None:
    """Provenance that :func:`write_png` stored, or None."""
    return _json_dict(_text(_open(source)).get(_PROVENANCE))


def convert_for_png(image: NDArray[Any], axes: str, dtype: StoredDtype) -> tuple[NDArray[Any], str]:
    """One plane of shape (Y, X) or (Y, X, S), uint8 or uint16, and the rule applied.

    Raises
    ------
    ImageError
        More than one plane, 16-bit colour, or values that PNG cannot hold.
    """
    planes = [n for letter, n in zip(axes, image.shape, strict=True) if letter not in "YXS"]
    if any(n != 1 for n in planes):
        raise ImageError(f"PNG holds one plane; got {axes} of shape {image.shape}. Choose a name ending in .ome.tif.")
    plane = image.reshape(image.shape[len(planes) :])
    is_float = plane.dtype.kind == "f"
    if is_float and dtype == "keep":
        raise ImageError("PNG holds no floating-point values; choose uint8 or uint16, or a name ending in .ome.tif")
    if plane.dtype.kind == "b":
        dtype = "uint8" if dtype != "uint16" else dtype
    elif dtype == "float32":
        dtype = "uint8" if is_float else "keep"
    stored, rule = convert(plane, dtype)
    if stored.dtype not in (np.uint8, np.uint16):
        stored, rule = convert(stored, "uint16")  # names the limits if a value does not fit
    if stored.ndim == 3 and stored.dtype == np.uint16:
        raise ImageError("PNG is written with 16 bits for grey images only; choose uint8, or a name ending in .ome.tif")
    return stored, rule


def write_png(
    temporary: Path,
    image: NDArray[Any],
    *,
    mapping: str,
    pixel_size_um: Mapping[str, float],
    provenance: Mapping[str, Any] | None,
) -> None:
    """Write a plane that :func:`convert_for_png` prepared, and check the file."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_itxt(_DESCRIPTION, f"Written by napari-cellenhance. Pixel values: {mapping}.")
    sizes = {letter: abs(float(v)) for letter, v in pixel_size_um.items() if letter in "YX" and np.isfinite(v) and v}
    text.add_itxt(_PIXEL_SIZE, json.dumps(sizes))
    if provenance is not None:
        text.add_itxt(_PROVENANCE, json.dumps(json_ready(provenance), allow_nan=False))
    with open(temporary, "wb") as stream:
        Image.fromarray(image).save(stream, format="PNG", pnginfo=text)
    with Image.open(temporary) as written:
        written.verify()


def _open(source: Path) -> Image.Image:
    from PIL import Image

    try:
        with Image.open(source, formats=["PNG"]) as opened:
            opened.load()
            return opened.copy()
    except Image.DecompressionBombError as error:
        raise ImageError(f"{source} has more pixels than PNG is read with here ({error}); save it as TIFF") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"{source} is not a readable PNG file, or it is damaged: {error}") from error


def _text(opened: Image.Image) -> dict[str, str]:
    return {str(key): str(value) for key, value in opened.info.items() if isinstance(value, str)}


def _json_dict(text: str | None) -> dict[str, Any] | None:
    try:
        value = parse_json(text) if text else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _is_deep_colour(source: Path) -> bool:
    with open(source, "rb") as stream:
        header = stream.read(26)
    # Bytes 24 and 25 of a PNG are the bit depth and the colour type.
    return header[24] == 16 and header[25] in _COLOUR_TYPES_OF_MORE_SAMPLES
