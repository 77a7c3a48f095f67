"""OME-XML as this project writes and reads it: axes, units, channel names, provenance."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET

from napari_cellenhance.io.json_ready import json_ready, parse_json

__all__ = ["OmeInfo", "metadata_for", "parse", "unit_in_um"]

NAMESPACE = "napari-cellenhance/image/1"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_UM = {
    "pm": 1e-6,
    "å": 1e-4,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "µm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "dm": 1e5,
    "m": 1e6,
    "in": 25400.0,
    "inch": 25400.0,
}
_SECONDS = {
    "ns": 1e-9,
    "µs": 1e-6,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OmeInfo:
    """What an OME-XML says about its first image.

    ``own_axes`` is the axes string that this project stored, with the length-1 axes and
    the order that the OME model itself cannot tell; empty for files of other programs.
    """

    pixel_size_um: dict[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    description: str = ""
    own_axes: str = ""
    provenance: dict[str, Any] | None = None
    n_images: int = 1


def unit_in_um(unit: str) -> float | None:
    """Length of one ``unit`` in µm; None for pixels and units that are not known.

    >>> unit_in_um("nm"), unit_in_um("micron"), unit_in_um("pixel")
    (0.001, 1.0, None)
    """
    # Three spellings of micro: U+00B5, U+03BC, and ImageJ's escaped text.
    plain = unit.strip().replace("\\u00B5", "µ").replace("\u03bc", "µ").lower()
    return _UM.get(plain)


def metadata_for(
    axes: str,
    original_axes: str,
    *,
    name: str,
    pixel_size_um: Mapping[str, float],
    channel_names: Sequence[str],
    provenance: Mapping[str, Any] | None,
    description: str,
    mapping: str,
) -> dict[str, Any]:
    """Build the ``metadata`` argument of ``tifffile.imwrite(ome=True)``."""
    notes = {"Namespace": NAMESPACE, "axes": original_axes, "mapping": _clean(mapping)}
    if provenance is not None:
        notes["provenance"] = _clean(json.dumps(json_ready(provenance), ensure_ascii=True, allow_nan=False))
    metadata: dict[str, Any] = {
        "axes": axes,
        "Name": _clean(name),
        "Description": _clean(description),
        "MapAnnotation": notes,
    }
    for letter in "XYZ":
        # OME allows positive sizes only; a flipped axis (negative scale in napari) keeps its length.
        size = abs(float(pixel_size_um.get(letter, 0.0)))
        if letter in axes and math.isfinite(size) and size > 0:
            metadata[f"PhysicalSize{letter}"] = size
            metadata[f"PhysicalSize{letter}Unit"] = "µm"
    interval = abs(float(pixel_size_um.get("T", 0.0)))
    if "T" in axes and math.isfinite(interval) and interval > 0:
        metadata["TimeIncrement"] = interval
        metadata["TimeIncrementUnit"] = "s"
    if channel_names:
        metadata["Channel"] = {"Name": [_clean(name) for name in channel_names]}
    return metadata


def parse(xml: str) -> OmeInfo:
    """Read an OME-XML text.

    Raises
    ------
    ValueError
        Not XML.
    """
    try:
        root = ET.fromstring(xml)
    except ET.ParseError as error:
        raise ValueError(f"the OME-XML is damaged ({error})") from error
    images = root.findall("{*}Image")
    pixels = images[0].find("{*}Pixels") if images else None
    if pixels is None:
        return OmeInfo(n_images=len(images))
    notes = _own_notes(root)
    return OmeInfo(
        pixel_size_um=_sizes(pixels),
        channel_names=_channel_names(pixels),
        description=images[0].findtext("{*}Description") or "",
        own_axes=notes.get("axes", ""),
        provenance=_provenance(notes.get("provenance")),
        n_images=len(images),
    )


def _sizes(pixels: ET.Element) -> dict[str, float]:
    sizes: dict[str, float] = {}
    for letter in "XYZ":
        factor = unit_in_um(pixels.get(f"PhysicalSize{letter}Unit", "µm"))
        _keep(sizes, letter, pixels.get(f"PhysicalSize{letter}"), factor)
    unit = pixels.get("TimeIncrementUnit", "s").replace("\u03bc", "µ")
    _keep(sizes, "T", pixels.get("TimeIncrement"), _SECONDS.get(unit))
    return sizes


def _keep(sizes: dict[str, float], letter: str, text: str | None, factor: float | None) -> None:
    try:
        size = float(text or "nan") * (factor if factor is not None else math.nan)
    except ValueError:
        return  # not a number: the image is still good, its size is just not known
    if math.isfinite(size) and size > 0:
        sizes[letter] = size


def _channel_names(pixels: ET.Element) -> tuple[str, ...]:
    names = [channel.get("Name", "") for channel in pixels.findall("{*}Channel")]
    return tuple(names) if any(names) else ()


def _own_notes(root: ET.Element) -> dict[str, str]:
    for annotation in root.iterfind(".//{*}MapAnnotation"):
        if annotation.get("Namespace") == NAMESPACE:
            return {m.get("K", ""): m.text or "" for m in annotation.iterfind("{*}Value/{*}M")}
    return {}


def _provenance(text: str | None) -> dict[str, Any] | None:
    try:
        value = parse_json(text) if text else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
