"""A model package of the BioImage Model Zoo: its description read, checked, and brought to what can be run here.

Nothing of a package is unpacked or run here. What this version cannot run as its authors meant it is refused with a
reason.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from napari_cellenhance.core.errors import CellEnhanceError, ChecksumError, ManifestError, ParameterError, WeightsError
from napari_cellenhance.zoo.archives import damage_told, members, read_limited

__all__ = ["DESCRIPTIONS", "Package", "check_hash", "described_network", "read_package"]

DESCRIPTIONS = ("bioimageio.yaml", "rdf.yaml", "model.yaml")
_MAX_FILE_BYTES = 2_000_000_000
_MAX_TOTAL_BYTES = 4_000_000_000
_MAX_DESCRIPTION_BYTES = 1_000_000
_MAX_VALUES = 200_000
_SUFFIXES = (".pt", ".pth", ".torchscript", ".onnx", ".safetensors", ".npy", ".yaml", ".yml")
_WHAT = "a package of the BioImage Model Zoo"
_SHORT = {"batch": "b", "b": "b", "channel": "c", "c": "c", "z": "z", "y": "y", "x": "x"}


@dataclass(frozen=True, slots=True)
class Package:
    """A package in memory.

    Parameters
    ----------
    name : str
        Of the file, for messages.
    description : dict
        As its authors wrote it; nothing is checked yet but that it is a model.
    files : dict of str to bytes
        Weights and test images, by their path in the package.
    """

    name: str
    description: dict[str, Any]
    files: dict[str, bytes]

    def file(self, source: Any) -> bytes:
        """Bytes of a file that the description names.

        Raises
        ------
        WeightsError
            It is not in the package.
        """
        wanted = str(PurePosixPath(str(source.get("source") if isinstance(source, Mapping) else source)))
        if wanted not in self.files:
            raise WeightsError(
                f"{self.name} names the weights {wanted!r}, which are not in it; download the whole package (zip), not "
                "only its description"
            )
        return self.files[wanted]


def read_package(path: str | os.PathLike[str]) -> Package:
    """Read the description and the weights of a package (zip or tar).

    Raises
    ------
    WeightsError
        No archive, damaged, holding names that lead out of it, or files that are too large or too many.
    ManifestError
        No description of a model in it, or one that cannot be read.
    OSError
        The file cannot be read.
    """
    source = Path(path)
    files: dict[str, bytes] = {}
    with damage_told(source.name):
        for name, size, stream in members(source, _WHAT):
            if PurePosixPath(name).suffix.lower() in _SUFFIXES:
                is_text = name.lower().endswith((".yaml", ".yml"))
                left = _MAX_TOTAL_BYTES - sum(map(len, files.values()))
                limit = _MAX_DESCRIPTION_BYTES if is_text else min(_MAX_FILE_BYTES, left)
                files[str(PurePosixPath(name))] = read_limited(stream, size, limit, f"{name} in {source.name}")
    named = next((name for name in DESCRIPTIONS if name in files), None)
    if named is None:
        raise ManifestError(f"{source.name} holds none of {', '.join(DESCRIPTIONS)} at its top; this is not {_WHAT}")
    description = _parse(files.pop(named), source.name)
    return Package(source.name, description, files)


def check_hash(data: bytes, entry: Mapping[str, Any], what: str) -> None:
    """Compare a file with the SHA-256 that the description gives, where it does.

    Raises
    ------
    ChecksumError
        They differ.
    """
    wanted = entry.get("sha256")
    if wanted and hashlib.sha256(data).hexdigest() != str(wanted).lower():
        raise ChecksumError(f"{what} is not the file that its description names (its SHA-256 differs); get it again")


def described_network(description: Mapping[str, Any], kind: str, channel: int | None) -> dict[str, Any]:
    """Architecture of a model card for a network of planes or volumes, of one channel or several.

    Parameters
    ----------
    description : mapping
        Of format 0.4 or 0.5.
    kind : str
        "torchscript" or "onnx".
    channel : int or None
        Which channel of the (first) output is the result; None takes all where as many come out as go in, several; else
        the first.

    Raises
    ------
    ManifestError
        Several inputs, another size of the result, a channel that it lacks, processing that is unknown here, or a
        description that is damaged; says which.
    """
    from napari_cellenhance.core.recipes.imported import NetworkPlan

    name = str(description.get("name", "the model"))
    try:
        inputs, outputs = _tensors(description, "inputs"), _tensors(description, "outputs")
        if len(inputs) != 1:
            raise ParameterError(f"it takes {len(inputs)} inputs at once; expected one image")
        has_axes_of_04 = isinstance(inputs[0].get("axes"), str)
        read = _of_format_4 if has_axes_of_04 else _of_format_5
        found = read(inputs[0], outputs[0])
        shown = _shown(channel, found["n_in"], found.pop("n_out"))
        plan = NetworkPlan.from_dict({"name": kind, "channel": shown, "dtype": "float32", **found})
    except CellEnhanceError as error:
        raise ManifestError(f"“{name}” cannot be run here: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ManifestError(f"the description of “{name}” is damaged ({type(error).__name__}: {error})") from error
    return plan.to_dict()


def _shown(channel: int | None, n_in: int, n_out: int) -> int | None:
    if channel is None:
        return None if n_in == n_out > 1 else 0
    if not 0 <= channel < n_out:
        raise ParameterError(f"its result has {n_out} channel(s); there is no channel {channel}, counted from 0")
    return channel


def _parse(data: bytes, name: str) -> dict[str, Any]:
    import yaml

    try:
        text = data.decode("utf-8")
        n_values = _n_values(yaml.compose(text, Loader=yaml.SafeLoader))
        found = yaml.safe_load(text) if n_values <= _MAX_VALUES else None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ManifestError(f"the description in {name} is not valid YAML ({reason})") from error
    if n_values > _MAX_VALUES:
        raise ManifestError(f"the description in {name} would grow beyond {_MAX_VALUES} values; do not trust it")
    if not isinstance(found, dict) or found.get("type", "model") != "model" or "weights" not in found:
        raise ManifestError(f"{name} describes no model; choose a model of the BioImage Model Zoo")
    version = str(found.get("format_version", ""))
    if not version.startswith(("0.4.", "0.5.")):
        raise ManifestError(f"{name} is of the format {version or 'unknown'}; this version reads 0.4 and 0.5")
    return {str(key): value for key, value in found.items()}


def _n_values(node: Any) -> int:
    """Values of a YAML document with all its references written out: how a few bytes become billions."""
    counted: dict[int, int] = {}

    def count(one: Any) -> int:
        if id(one) not in counted:
            counted[id(one)] = _MAX_VALUES + 1  # what refers to itself has no end
            parts = one.value if isinstance(getattr(one, "value", None), list) else []
            flat = [part for pair in parts for part in (pair if isinstance(pair, tuple) else (pair,))]
            counted[id(one)] = 1 + sum(map(count, flat))
        return counted[id(one)]

    return count(node)


def _tensors(description: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = description[key]
    if not isinstance(found, list) or not found:
        raise ParameterError(f"it has no {key}")
    return found


# --- format 0.5 -----------------------------------------------------------------------------


def _of_format_5(given: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    axes_in, axes_out = [_axis_5(axis) for axis in given["axes"]], [_axis_5(axis) for axis in result["axes"]]
    by_letter, out_by_letter = dict(axes_in), dict(axes_out)
    given_id = str(given.get("id", "input"))
    sides, is_volume = {}, "z" in by_letter and _minimum(by_letter["z"]["size"]) > 1
    for letter in "zyx" if is_volume else "yx":
        axis = by_letter[letter]
        step = int(axis["size"].get("step", 0)) if isinstance(axis["size"], Mapping) else 0
        sides[letter] = [_minimum(axis["size"]), step, _halo_5(out_by_letter[letter], axis, given_id)]
    n_in, n_out = (len(axes.get("c", {}).get("channel_names", [0])) for axes in (by_letter, out_by_letter))
    before = list(given.get("preprocessing") or [])
    return {
        "axes_in": "".join(letter for letter, _ in axes_in), "axes_out": "".join(letter for letter, _ in axes_out),
        "dtype": "float32", **sides, "n_in": n_in, "n_out": n_out,
        "is_per_channel": _is_per_channel([_measured_axes(step.get("kwargs")) for step in before], n_in, is_volume),
        "before": [s for step in before for s in _step_5(step, None)],
        "after": _after([s for step in result.get("postprocessing") or [] for s in _step_5(step, given_id)]),
    }  # fmt: skip


def _measured_axes(settings: Any) -> str | None:
    """Letters of the axes along which a step measures; None where it does not say, and takes all."""
    axes = settings.get("axes") if isinstance(settings, Mapping) else None
    return None if axes is None else "".join(_SHORT.get(str(axis), str(axis)) for axis in axes)


def _is_per_channel(measured: Sequence[str | None], n_in: int, is_volume: bool) -> bool:
    """Whether the steps before the network measure each channel by itself."""
    told = [axes for axes in measured if axes is not None]
    if is_volume and any("z" not in axes for axes in told):
        raise ParameterError("its steps measure volumes plane by plane; expected whole volumes (z, y and x)")
    found = {"c" not in axes for axes in told} if n_in > 1 else set()
    if len(found) > 1:
        raise ParameterError("some of its steps measure each channel by itself, and others all of them together")
    return found == {True}


def _axis_5(axis: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    kind = str(axis.get("type"))
    letter = _SHORT.get(str(axis.get("id", kind)))
    if letter is None or kind not in ("batch", "channel", "space"):
        raise ParameterError(f"it has the axis {axis.get('id', kind)!r}; expected batch, channel, z, y and x")
    return letter, axis


def _minimum(size: Any) -> int:
    if isinstance(size, Mapping) and "min" not in size:
        raise ParameterError("the size of its input depends on something else; expected a number, or minimum and step")
    return int(size["min"] if isinstance(size, Mapping) else size)


def _halo_5(axis: Mapping[str, Any], given: Mapping[str, Any], given_id: str) -> int:
    size = axis["size"]
    if isinstance(size, Mapping):
        is_same = (size.get("tensor_id"), size.get("axis_id")) == (given_id, given.get("id"))
        is_scaled = float(axis.get("scale", 1.0)) != float(given.get("scale", 1.0))
        if not is_same or size.get("offset", 0) or is_scaled:
            raise ParameterError("its result has another size than its input; expected the same")
    elif isinstance(given["size"], Mapping) or int(size) != int(given["size"]):
        raise ParameterError("its result has another size than its input; expected the same")
    return int(axis.get("halo", 0))


def _step_5(step: Mapping[str, Any], reference: str | None) -> list[dict[str, Any]]:
    """Known steps of a step of format 0.5; ``reference`` is the input's id, in postprocessing."""
    name, settings = str(step.get("id", step.get("name"))), dict(step.get("kwargs") or {})
    if name == "ensure_dtype":
        if settings.get("dtype") not in ("float32", "float64") and reference is None:
            raise ParameterError(f"it asks for pixels of the type {settings.get('dtype')!r}; expected float32")
        return []
    axes = settings.pop("axes", None)
    if axes is not None and not {"x", "y"} <= {_SHORT.get(str(a), str(a)) for a in axes}:
        raise ParameterError(f"{name} measures along {list(axes)}; expected whole planes (y and x)")
    settings.pop("axis", None)  # softmax over channels, fixed_zero_mean_unit_variance along them
    measures = settings.pop("reference_tensor", None)
    is_after = reference is not None and name in ("scale_range", "zero_mean_unit_variance")
    if is_after and (measures != reference or name != "scale_range"):
        raise ParameterError(f"{name} after the network measures its whole result; only the input can be measured")
    return [{"name": name} | {key: _number(name, key, value) for key, value in settings.items() if value is not None}]


def _after(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if any(step["name"] == "scale_range" for step in steps[1:]):
        raise ParameterError("scale_range after another step that follows the network is not known here")
    return steps


def _number(name: str, key: str, value: Any) -> float:
    single = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(single, bool) or not isinstance(single, (int, float)):
        raise ParameterError(f"{name} has {key} = {value!r}; expected a single number")
    return float(single)


# --- format 0.4 -----------------------------------------------------------------------------


def _of_format_4(given: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    axes_in, axes_out = str(given["axes"]), str(result["axes"])
    shape, out = given["shape"], result["shape"]
    lowest, steps = (shape["min"], shape["step"]) if isinstance(shape, Mapping) else (shape, [0] * len(shape))
    size = dict(zip(axes_in, zip(lowest, steps, strict=True), strict=True))
    n_in, channel_step = size.get("c", (1, 0))
    if channel_step:
        raise ParameterError(f"it takes {n_in} or more channels at once; expected a fixed number")
    is_volume = "z" in size and size["z"] != (1, 0)
    letters = "zyx" if is_volume else "yx"
    if isinstance(out, Mapping):
        scales, offsets = (dict(zip(axes_out, out[key], strict=True)) for key in ("scale", "offset"))
        is_same = all((scales[a], offsets[a]) == (1.0, 0.0) for a in letters)
        n_out = round(scales.get("c", 1.0) * n_in + 2 * offsets.get("c", 0.0))
    else:
        lengths = dict(zip(axes_out, out, strict=True))
        is_same, n_out = all(lengths[a] == size[a][0] for a in letters), int(lengths.get("c", 1))
    if not is_same:
        raise ParameterError("its result has another size than its input; expected the same")
    halo = dict(zip(axes_out, result.get("halo") or [0] * len(axes_out), strict=True))
    before = list(given.get("preprocessing") or [])
    return {
        "axes_in": axes_in, "axes_out": axes_out, "dtype": "float32", "n_in": int(n_in), "n_out": n_out,
        **{a: [int(size[a][0]), int(size[a][1]), int(halo[a])] for a in letters},
        "is_per_channel": _is_per_channel([_measured_axes(step.get("kwargs")) for step in before], n_in, is_volume),
        "before": [s for step in before for s in _step_4(step, None)],
        "after": _after([
            s for step in result.get("postprocessing") or [] for s in _step_4(step, str(given.get("name")))
        ]),
    }  # fmt: skip


def _step_4(step: Mapping[str, Any], reference: str | None) -> list[dict[str, Any]]:
    settings = dict(step.get("kwargs") or {})
    mode = settings.pop("mode", None)
    name = str(step["name"])
    if mode == "fixed":
        name = {"zero_mean_unit_variance": "fixed_zero_mean_unit_variance"}.get(name, f"{name} of fixed mode")
        settings.pop("eps", None)
    axes: Sequence[str] | None = None
    if isinstance(settings.get("axes"), str):
        axes = list(settings.pop("axes"))
    return _step_5({"id": name, "kwargs": {**settings, **({} if axes is None else {"axes": axes})}}, reference)
