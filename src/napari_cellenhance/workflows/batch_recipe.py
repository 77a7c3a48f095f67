"""A recipe: what is done with every file of a batch, chosen once, kept as JSON, or read off a result that was liked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model

from napari_cellenhance.core.errors import ModelNotFoundError, ParameterError
from napari_cellenhance.io.json_ready import json_ready, load_json
from napari_cellenhance.workflows import catalog
from napari_cellenhance.workflows.denoise import DenoiseRequest
from napari_cellenhance.workflows.requests import EnhanceRequest, SegmentOptions
from napari_cellenhance.workflows.restore import RestoreRequest
from napari_cellenhance.workflows.segment_model import SegmentModelRequest, list_segmenters
from napari_cellenhance.workflows.separate import SeparateRequest
from napari_cellenhance.zoo.manifest import list_models

__all__ = [
    "VERSION",
    "Recipe",
    "Step",
    "check_weights",
    "fingerprint",
    "from_record",
    "from_result",
    "kind_of",
    "read_recipe",
    "recipe_of",
    "record_in",
    "sentence",
    "step_for_model",
    "title_of",
    "write_recipe",
]

VERSION = 1

Step = EnhanceRequest | DenoiseRequest | RestoreRequest | SeparateRequest | SegmentModelRequest
"""One thing that is done with a picture: the request of its workflow, without an image."""

Dtype = Literal["float32", "same", "uint8", "uint16"]
_DTYPES = ("float32", "same", "uint8", "uint16")

_KINDS: dict[str, type[Step]] = {
    "enhance": EnhanceRequest, "denoise": DenoiseRequest, "restore": RestoreRequest, "separate": SeparateRequest,
    "segment": SegmentModelRequest,
}  # fmt: skip
_STEP_OF_RECIPE = {"n2v": "denoise", "care": "restore", "semantic": "separate"}
_OF_THE_IMAGE = {
    "image", "source_name", "pixel_size_um", "earlier", "region", "suggestion", "strength_map", "blobs", "segment",
}  # fmt: skip
_OF_THE_MACHINE = {"device", "precision", "tile_px", "memory_limit_mb", "cache_folder"}
_NOT_REPEATED = ("synthesize", "persistence")
"""Steps of records that are no step of a recipe: what they made is where a chain begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is done with every file.

    Parameters
    ----------
    steps : tuple of requests
        One after the other, each on what the one before made. Their images are empty; only the first may state axes.
        Which device computes is no part of a recipe.
    labels : SegmentOptions or None
        Number the objects of the last picture, by a threshold. Not where the last step finds objects itself.
    measure : bool
        Write a table of the objects: size, shape, place, and grey values of the file and of the result.
    dtype : "float32", "same", "uint8" or "uint16"
        Pixel type of the results. "same": that of the file, rounded, for grey values (denoise, restore, separate);
        "uint8" and "uint16" hold the 0…1 of an enhanced image as 0…maximum.
    weights : tuple of str
        SHA-256 of the weights of each step, as they were; "" where there are none or nobody knows. Empty: of no step.
    input_sha256 : str
        Hash of the image that the recipe was made with; empty where it was not made with one.
    """

    steps: tuple[Step, ...]
    labels: SegmentOptions | None = None
    measure: bool = False
    dtype: Dtype = "float32"
    weights: tuple[str, ...] = ()
    input_sha256: str = ""

    def __post_init__(self) -> None:
        if self.weights and len(self.weights) != len(self.steps):
            raise ParameterError(f"{len(self.weights)} SHA-256 came for {len(self.steps)} steps; expected one for each")
        if not self.steps:
            raise ParameterError("the recipe has no step; name a filter or a model")
        if any(step.axes for step in self.steps[1:]):
            raise ParameterError("only the first step of a recipe may state axes; leave them empty in the others")
        if any(kind_of(step) == "segment" for step in self.steps[:-1]):
            raise ParameterError("a step follows upon a segmentation, which has no grey values; segment last")
        if self.dtype not in _DTYPES:
            raise ParameterError(f"pixel type is {self.dtype!r}; expected one of {', '.join(_DTYPES)}")
        last = kind_of(self.steps[-1])
        if last == "segment" and (self.labels is not None or self.dtype != "float32"):
            raise ParameterError(
                "the last step finds objects by a model; it takes neither a threshold nor another pixel type"
            )
        if (self.dtype in ("uint8", "uint16")) is not (last == "enhance") and self.dtype != "float32":
            raise ParameterError(f"pixel type {self.dtype} does not go with a recipe that ends with {last!r}")
        if self.measure and not self.finds_objects:
            raise ParameterError("there are no objects to measure; add a segmentation (labels) to the recipe")

    @property
    def finds_objects(self) -> bool:
        """Whether labels are written beside the image."""
        if self.labels is not None:
            return True
        match self.steps[-1]:
            case SeparateRequest(has_objects=found):
                return found
            case SegmentModelRequest(outputs=outputs):
                return "instances" in outputs
        return False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; settings that have their default are left out, so that a person can read it."""
        steps = [_step_to_dict(step) for step in self.steps]
        for step, sha256 in zip(steps, self.weights, strict=False):
            if sha256:
                step["sha256"] = sha256
        more = {"input_sha256": self.input_sha256} if self.input_sha256 else {}
        return {
            "cellenhance_recipe": VERSION,
            "steps": steps,
            "labels": None if self.labels is None else asdict(self.labels),
            "measure": self.measure,
            "dtype": self.dtype,
            **more,
        }

    @classmethod
    def from_dict(cls, data: Any, name: str = "the recipe") -> Recipe:
        """Read what :meth:`to_dict` gives.

        Parameters
        ----------
        data : mapping
        name : str
            Of the recipe in messages.

        Raises
        ------
        ParameterError
            Not a recipe, of a later version, or a field that is unknown or has an impossible value.
        """
        if not isinstance(data, Mapping) or "cellenhance_recipe" not in data:
            raise ParameterError(f'{name} is no recipe; expected a JSON object with "cellenhance_recipe": {VERSION}')
        if data["cellenhance_recipe"] != VERSION:
            raise ParameterError(
                f"{name} is of version {data['cellenhance_recipe']!r}, this program knows {VERSION}; update it "
                "(pip install -U napari-cellenhance)"
            )
        known = {"cellenhance_recipe", "steps", "labels", "measure", "dtype", "input_sha256", "record"}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ParameterError(f"{name} has a field {unknown[0]!r}; expected steps, labels, measure and dtype")
        steps, measure = data.get("steps"), data.get("measure", False)
        if not isinstance(steps, list) or not isinstance(measure, bool):
            raise ParameterError(f"{name}: expected a list of steps, and true or false for measure")
        labels, weights = data.get("labels"), tuple(_weights_in(step) for step in steps)
        return cls(
            steps=tuple(_step_from_dict(step, f"{name}, step {n}") for n, step in enumerate(steps, start=1)),
            weights=weights if any(weights) else (),
            input_sha256=str(data.get("input_sha256") or ""),
            labels=None if labels is None else _filled(SegmentOptions, labels, f"{name}, labels"),
            measure=measure,
            dtype=data.get("dtype", "float32"),
        )


def _weights_in(step: Any) -> str:
    return str(step.get("sha256") or "") if isinstance(step, Mapping) else ""


def kind_of(step: Step) -> str:
    """Word for a step: enhance, denoise, restore, separate or segment."""
    return next(word for word, kind in _KINDS.items() if type(step) is kind)


def title_of(step: Step) -> str:
    """Id of its filter or model."""
    return step.filter_id if isinstance(step, EnhanceRequest) else step.model_id


def sentence(recipe: Recipe) -> str:
    """Say a recipe in one line.

    >>> gamma = EnhanceRequest(image=None, axes="", filter_id="gamma", strength=2.0)
    >>> sentence(Recipe(steps=(gamma,), labels=SegmentOptions(), measure=True))
    'enhance with gamma, strength 2 → label objects (otsu) → measure'
    """
    parts = []
    for step in recipe.steps:
        text = f"{kind_of(step)} with {title_of(step)}"
        if isinstance(step, EnhanceRequest) and step.strength is not None:
            text += f", strength {step.strength if isinstance(step.strength, str) else f'{step.strength:g}'}"
        parts.append(text)
    if recipe.labels is not None:
        parts.append(f"label objects ({recipe.labels.method})")
    if recipe.measure:
        parts.append("measure")
    return " → ".join(parts)


# --- files ------------------------------------------------------------------------------------


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe from a JSON file: one of a batch, one that was saved, or the record of a result.

    Raises
    ------
    ParameterError
        No JSON, or as for :meth:`Recipe.from_dict`.
    OSError
        It cannot be opened.
    """
    source = Path(path)
    try:
        data = load_json(source)
    except (UnicodeDecodeError, ValueError) as error:
        raise ParameterError(f"{source} is no JSON ({error}); write a recipe with --write-recipe") from error
    return recipe_of(data, str(source))


def recipe_of(data: Any, name: str = "the recipe") -> Recipe:
    """Recipe out of JSON: as :meth:`Recipe.to_dict` gives it, or a record of how a result was made.

    Raises
    ------
    ParameterError
        As for :meth:`Recipe.from_dict` and :func:`from_record`.
    """
    if isinstance(data, Mapping) and data.get("software") == "napari-cellenhance":
        return from_record(data)
    return Recipe.from_dict(data, name)


def write_recipe(path: str | os.PathLike[str], recipe: Recipe, *, overwrite: bool = True) -> Path:
    """Write a recipe as JSON.

    Raises
    ------
    TargetExistsError, WriteError
        As for :func:`napari_cellenhance.io.reports.write_json`.
    """
    from napari_cellenhance.io.reports import write_json

    return write_json(path, recipe.to_dict(), overwrite=overwrite)


def from_result(path: str | os.PathLike[str]) -> Recipe:
    """Recipe by which a result of this program was made.

    Raises
    ------
    ParameterError
        The file does not say how it was made.
    ImageError, OSError
        It cannot be read.
    """
    return from_record(record_in(path))


def record_in(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Record of how a file was made, out of an OME-TIFF, a PNG or an OME-Zarr.

    Raises
    ------
    ParameterError
        The file does not say how it was made.
    ImageError, OSError
        It cannot be read.
    """
    from napari_cellenhance.io.images import read_provenance
    from napari_cellenhance.io.lazy_images import open_lazily

    if Path(path).is_dir():
        with open_lazily(path) as image:
            record = image.provenance
    else:
        record = read_provenance(path)
    if record is None:
        raise ParameterError(f"{path} does not say how it was made; choose a result that this program wrote")
    return record


def from_record(record: Mapping[str, Any]) -> Recipe:
    """Recipe that makes other images as the one with this record was made, earlier steps included.

    Parameters
    ----------
    record : mapping
        ``metadata['cellenhance']`` of a layer, or the provenance of a file.

    Raises
    ------
    ParameterError
        Not made by a step that can be repeated, or with strengths by region, which belong to that image alone.
    """
    steps: list[Step] = []
    weights: list[str] = []
    labels, input_sha256 = None, ""
    step: Mapping[str, Any] | None = record
    while step is not None:
        made = _step_of_record(step)
        if made is None:
            break
        weights.insert(0, str(step.get("sha256") or ""))
        source = step.get("source")
        source = source if isinstance(source, Mapping) else {}
        input_sha256 = "" if source.get("sha256_of") == "a sample" else str(source.get("sha256") or "")
        if not steps and isinstance(step.get("segment"), Mapping):
            labels = _filled(SegmentOptions, dict(step["segment"]), "the record")
        steps.insert(0, made)
        step = step.get("earlier")
        if step is not None and not isinstance(step, Mapping):
            raise ParameterError(f"the record tells {step!r:.60} of the step before; expected an object, copy it again")
    if not steps:
        raise ParameterError("that result was not made by a filter or a model; choose another one")
    known = tuple(weights) if any(weights) else ()
    return Recipe(steps=tuple(steps), labels=labels, weights=known, input_sha256=input_sha256)


def _step_of_record(record: Mapping[str, Any]) -> Step | None:
    """The step that a record tells of; None for one that cannot be done with other images (a synthesis)."""
    if record.get("strength_map"):
        raise ParameterError(
            "that result was made with strengths by region, which belong to its image alone; choose one strength"
        )
    word = record.get("step")
    if word is not None and word not in (*_KINDS, *_NOT_REPEATED):
        raise ParameterError(
            f"a step of that result is {word!r}, which this program does not know; expected one of "
            f"{', '.join(_KINDS)}. A later version may know it: update the program"
        )
    if word in _NOT_REPEATED:
        return None
    shared = {name: record[name] for name in ("channels", "statistics") if name in record}
    if "filter" in record:
        values = {"filter_id": record["filter"], "strength": record.get("strength")}
        values["objects_are_dark"] = record.get("objects_are_dark", False)
    elif word is not None and "model" in record:
        names = ("symmetries", "repeats", "objects", "outputs", "instances")
        values = {"model_id": record["model"]} | {n: record[n] for n in names if record.get(n) is not None}
        if record["step"] == "separate" and "objects" in values:
            values["has_objects"] = True
    else:
        return None
    kind = record["step"] if "filter" not in record else "enhance"
    return cast("Step", _filled(_KINDS[kind], shared | values, "the record"))


# --- models -----------------------------------------------------------------------------------


def step_for_model(model_id: str) -> Step:
    """The step that a model is for: denoisers denoise, segmenting models segment, filters enhance.

    Raises
    ------
    ModelNotFoundError
        Neither a model nor a classical filter.
    """
    for card in list_models():
        if card.id == model_id and card.recipe in _STEP_OF_RECIPE:
            return cast("Step", _filled(_KINDS[_STEP_OF_RECIPE[card.recipe]], {"model_id": model_id}, model_id))
    if any(card.id == model_id for card in list_segmenters()):
        outputs = frozenset({"classes", "instances"})
        return SegmentModelRequest(image=None, axes="", model_id=model_id, outputs=outputs)
    catalog.describe(model_id)
    return EnhanceRequest(image=None, axes="", filter_id=model_id)


def fingerprint(recipe: Recipe) -> str:
    """SHA-256 of all that decides about the pixels: every setting, and the weights behind each id.

    Raises
    ------
    ModelNotFoundError
        A step names a filter or model that is not there.
    """
    text = json.dumps(
        {
            "steps": [[kind_of(step), _settings_of(step), _weights_of(step)] for step in recipe.steps],
            "labels": None if recipe.labels is None else asdict(recipe.labels),
            "measure": recipe.measure,
            "dtype": recipe.dtype,
        },
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def check_weights(recipe: Recipe) -> None:
    """Refuse to go on with other models than those of the recipe.

    Raises
    ------
    ModelNotFoundError
        A filter or model is not there.
    ParameterError
        One is there, with other weights.
    """
    wanted = recipe.weights or ("",) * len(recipe.steps)
    for number, (step, sha256) in enumerate(zip(recipe.steps, wanted, strict=True), start=1):
        known = f" (weights with SHA-256 {sha256[:12]}…)" if sha256 else ""
        try:
            found = _weights_of(step)
        except (ModelNotFoundError, FileNotFoundError) as error:
            raise ModelNotFoundError(
                f"step {number} of the recipe ({kind_of(step)}) needs {title_of(step)!r}{known}, which is not here; "
                "ask for the model file, or see 'cellenhance models list'"
            ) from error
        if sha256 and not isinstance(step, EnhanceRequest) and title_of(step).endswith(".json"):
            continue  # the card of a training; its hash is of the card, not of the weights
        if sha256 and found != sha256:
            raise ParameterError(
                f"step {number} of the recipe ({kind_of(step)}) was made with other weights of {title_of(step)!r}: "
                f"their SHA-256 begins with {sha256[:12]}, that of the model here with {found[:12]}. Get that version "
                "of the model, or allow any weights (in the terminal: --any-weights), for other pixels"
            )


def _weights_of(step: Step) -> str:
    if isinstance(step, EnhanceRequest):
        spec = catalog.describe(step.filter_id)
        return spec.sha256 or spec.version
    if step.model_id.endswith(".json"):
        return hashlib.sha256(Path(step.model_id).read_bytes()).hexdigest()
    for card in list_models():
        if card.id == step.model_id:
            return str(card.file.sha256)
    raise ModelNotFoundError(f"there is no model {step.model_id!r}; see 'cellenhance models list'")


# --- requests ↔ JSON ---------------------------------------------------------------------------


def _step_to_dict(step: Step) -> dict[str, Any]:
    plain = _settings_of(type(step)(image=None, axes=""))
    told = {name: value for name, value in _settings_of(step).items() if value != plain[name]}
    id_name = "filter_id" if isinstance(step, EnhanceRequest) else "model_id"
    return {"step": kind_of(step), id_name: title_of(step), **{k: v for k, v in told.items() if k != id_name}}


def _settings_of(step: Step) -> dict[str, Any]:
    """Fields of a request that belong to a recipe, ready for JSON; sets sorted."""
    found = {}
    for name in _names_of(type(step)):
        value = getattr(step, name)
        if hasattr(value, "__dataclass_fields__"):
            value = asdict(value)
        found[name] = json_ready(sorted(value) if isinstance(value, frozenset) else value)
    return found


def _names_of(kind: type[Any]) -> list[str]:
    return [one.name for one in fields(kind) if one.name not in _OF_THE_IMAGE | _OF_THE_MACHINE]


def _step_from_dict(data: Any, name: str) -> Step:
    if not isinstance(data, Mapping) or data.get("step") not in tuple(_KINDS):
        raise ParameterError(f'{name} has no "step"; expected one of {", ".join(_KINDS)}')
    values = {key: value for key, value in data.items() if key not in ("step", "sha256")}
    step = cast("Step", _filled(_KINDS[data["step"]], values, name))
    if not title_of(step):
        raise ParameterError(f"{name} names no model; add model_id")
    return step


def _filled(kind: type[Any], values: Any, name: str) -> Any:
    """An object of a dataclass from JSON; unknown fields and wrong types become one sentence."""
    checker = _checker(kind)
    try:
        checked = checker.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = str(first["loc"][0]) if first["loc"] else "value"
        if first["type"] == "extra_forbidden":
            known = ", ".join(checker.model_fields)
            raise ParameterError(f"{name} has a field {place!r}; expected some of {known}") from error
        raise ParameterError(f"{name}: {place} is {first['input']!r}; {first['msg']}") from error
    given = {field: getattr(checked, field) for field in checked.model_fields_set}
    if issubclass(kind, Step):
        given = {"image": None, "axes": ""} | given
    return kind(**given)


def _checker(kind: type[Any]) -> type[BaseModel]:
    """What JSON may say of a dataclass."""
    hints, names = get_type_hints(kind), _names_of(kind)
    declared: dict[str, Any] = {}
    for one in fields(kind):
        if one.name not in names:
            continue
        default = None if one.default is MISSING else one.default  # never read: only what was given counts
        declared[one.name] = (_strict(hints[one.name], one.name), default)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(f"{kind.__name__}Json", __config__=config, **declared)


def _strict(hint: Any, name: str) -> Any:
    """Make a hint with a dataclass in it refuse unknown fields, which pydantic would pass over."""
    inner = next((one for one in (hint, *get_args(hint)) if isinstance(one, type) and is_dataclass(one)), None)
    if inner is None:
        return hint

    def fill(value: Any) -> Any:
        return _filled(inner, value, name) if isinstance(value, Mapping) else value

    return Annotated[hint, BeforeValidator(fill)]
