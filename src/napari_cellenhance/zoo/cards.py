"""The schema of ``weights_manifest.json`` and of a user's model card. JSON only, no torch."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from napari_cellenhance.zoo.folders import sha256_of

__all__ = [
    "IMPORTED_SUFFIXES",
    "SCHEMA_VERSION",
    "SEGMENTING",
    "AssetCard",
    "ClassCard",
    "FileEntry",
    "ManifestFile",
    "ModelCard",
    "NormalizationCard",
    "StrengthCard",
    "UserCardFile",
]

SCHEMA_VERSION: Final = 1
SEGMENTING: Final = ("aep", "voidseg", "stardist")
"""Recipes of models that segment."""
IMPORTED_SUFFIXES: Final = {"torchscript": ".torchscript", "onnx": ".onnx"}
"""Architecture of a model that came as a package of the BioImage Model Zoo → ending of its weights."""

Id = Annotated[str, Field(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$", max_length=64)]
Version = Annotated[str, Field(pattern=r"^\d+\.\d+(\.\d+)?([-+.][0-9A-Za-z.-]+)?$", max_length=40)]
Text = Annotated[str, Field(min_length=1)]

# Portable on every file system, no folder in it, not hidden, does not end in a dot.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,118}[A-Za-z0-9]")
_WINDOWS_DEVICES = frozenset({"CON", "PRN", "AUX", "NUL", *(f"{d}{i}" for d in ("COM", "LPT") for i in range(10))})


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileEntry(_Strict):
    """One file: its name on disk, where it comes from, and how to know that it is the right one.

    Parameters
    ----------
    name : str
        A bare file name; anything that could leave the folder is refused.
    url : str or None
        ``http(s)://…``, or a path under the manifest's base URL. None: a file in the
        user's models folder, which is never downloaded.
    sha256 : str
        64 lower-case hexadecimal digits.
    size_bytes : int
        Exact size; a longer answer of a server is cut off early.
    """

    name: str
    url: str | None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Field(gt=0)]

    @field_validator("name")
    @classmethod
    def _stays_in_its_folder(cls, name: str) -> str:
        is_device = name.split(".")[0].upper() in _WINDOWS_DEVICES
        if not _FILE_NAME.fullmatch(name) or ".." in name or is_device:
            raise ValueError(
                f"{name!r} is not a plain file name; expected letters, digits, '.', '_' and '-' only, and no folder"
            )
        return name

    @field_validator("url")
    @classmethod
    def _web_or_relative(cls, url: str | None) -> str | None:
        if url is None or re.match(r"https?://[^/\s]+/\S*$", url):
            return url
        parts = url.split("/")
        if not url or ":" in url or "\\" in url or re.search(r"\s", url) or not all(parts) or ".." in parts:
            raise ValueError(
                f"{url!r} is not an address; expected http(s)://… or a path under the base URL without '..'"
            )
        return url

    @classmethod
    def of(cls, path: str | os.PathLike[str], *, url: str | None = None, name: str | None = None) -> Self:
        """Describe a file on disk (reads it once for the SHA-256).

        Raises
        ------
        OSError
            The file cannot be read.
        """
        source = Path(path)
        return cls(name=name or source.name, url=url, sha256=sha256_of(source), size_bytes=source.stat().st_size)


class NormalizationCard(_Strict):
    """Normaliser of the input: a name of ``core.normalize`` and its settings."""

    name: Text
    parameters: dict[str, float | bool] = Field(default_factory=dict)


class StrengthCard(_Strict):
    """The slider of a model: range, default, and the strengths it was trained at.

    ``identity_below`` is the strength under which the output is blended with the input,
    so that 0 is the input continuously; 0 switches the blending off.
    """

    default: float
    minimum: float = 0.0
    maximum: float
    knots: tuple[float, ...] = ()
    identity_below: float = 0.0
    label: str = "Strength"
    help: str = ""

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if not 0.0 <= self.minimum <= self.default <= self.maximum:
            raise ValueError(
                f"strength {self.minimum}…{self.maximum} with default {self.default}; "
                "expected 0 ≤ minimum ≤ default ≤ maximum"
            )
        if self.maximum == 0.0:
            raise ValueError("the largest strength is 0; expected more than 0")
        if not 0.0 <= self.identity_below <= self.maximum:
            raise ValueError(f"identity_below is {self.identity_below}; expected 0…{self.maximum}")
        if any(low >= high for low, high in pairwise(self.knots)):
            raise ValueError(f"knots are {self.knots}; expected increasing strengths")
        if self.knots and not 0.0 <= self.knots[0] <= self.knots[-1] <= self.maximum:
            raise ValueError(f"knots are {self.knots}; expected values within 0…{self.maximum}")
        return self


class ClassCard(_Strict):
    """A class that a segmenting model knows.

    Parameters
    ----------
    value : int
        In painted labels and in the result; 1 is background.
    name : str
    color : str
        ``#rrggbb``; empty leaves it to the viewer.
    filter : int or None
        Number of the learned filter, counted from 0, that shows this class best.
    """

    value: Annotated[int, Field(ge=1, le=2**31 - 1)]
    name: Text
    color: Annotated[str, Field(pattern=r"^(#[0-9a-fA-F]{6})?$")] = ""
    filter: Annotated[int, Field(ge=0)] | None = None


class _Card(_Strict):
    id: Id
    title: Text
    version: Version
    file: FileEntry
    license: Text
    citation: str = ""
    bundled: bool = False


class ModelCard(_Card):
    """All that is known about a model without opening its weights.

    Parameters
    ----------
    recipe : "nunet", "n2v", "care", "semantic", "aep", "voidseg", "stardist" or "bioimageio"
        The method that runs it. A card of a method this version lacks is refused.
    architecture : dict
        ``{"name": …, other arguments of core.models.build}``.
    axes : "YX" or "ZYX"
        Axes of one input of the network.
    object_diameter_px : (float, float) or None
        Smallest and largest object the model was trained for; one number stands for both.
    classes : tuple of ClassCard
        What a segmenting model (see ``SEGMENTING``) tells apart, by increasing value; empty for filters.
    threshold : float or None
        Of models that find objects: probability above which there is one, as the training chose it.
    input_ranges : dict of str to (float, float)
        Smallest and largest value of each trait (see ``core.input_traits``) over the training images; empty where none
        was measured.
    training, scores : dict
        Free-form record (data, seed, steps, losses) and measured results.
    bundled : bool
        Whether a copy ships inside the package.
    """

    summary: str
    recipe: Literal["nunet", "n2v", "care", "semantic", "aep", "voidseg", "stardist", "bioimageio"]
    architecture: dict[str, JsonValue]
    normalization: NormalizationCard
    strength: StrengthCard
    axes: Literal["YX", "ZYX"] = "YX"
    object_diameter_px: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = None
    classes: tuple[ClassCard, ...] = ()
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    input_ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)
    training: dict[str, JsonValue] = Field(default_factory=dict)
    scores: dict[str, JsonValue] = Field(default_factory=dict)

    @field_validator("object_diameter_px", mode="before")
    @classmethod
    def _one_number_is_a_range(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, (int, float)) else value

    @field_validator("object_diameter_px")
    @classmethod
    def _range_is_ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError(f"object diameters are {value}; expected smallest, then largest")
        return value

    @field_validator("architecture")
    @classmethod
    def _is_named(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if type(value.get("name")) is not str:
            raise ValueError("the architecture has no 'name'; expected for example {'name': 'nunet'}")
        return value

    @model_validator(mode="after")
    def _fits_its_recipe(self) -> Self:
        allowed = IMPORTED_SUFFIXES.get(str(self.architecture["name"]), "") if self.recipe == "bioimageio" else ""
        if not self.file.name.endswith(allowed or ".safetensors"):
            raise ValueError(f"the weights file is {self.file.name!r}; only {allowed or '.safetensors'} is accepted")
        if self.recipe == "nunet" and (self.object_diameter_px is None or self.classes):
            raise ValueError("a filter of the recipe 'nunet' needs object_diameter_px, and has no classes")
        values = [one.value for one in self.classes]
        if self.recipe in SEGMENTING and (len(values) < 2 or any(low >= high for low, high in pairwise(values))):
            raise ValueError(f"the classes have the values {values}; expected two or more, increasing")
        return self


class AssetCard(_Card):
    """Another file of the project, such as a style bank, fetched the same way as weights."""

    summary: str = ""


class ManifestFile(_Strict):
    """``weights_manifest.json``: the project's own models and assets."""

    schema_version: Literal[1]
    base_url: str = ""
    models: tuple[ModelCard, ...] = ()
    assets: tuple[AssetCard, ...] = ()

    @field_validator("base_url")
    @classmethod
    def _is_web_or_unset(cls, url: str) -> str:
        if url and not re.match(r"https?://[^/\s]+\S*$", url):
            raise ValueError(f"base_url is {url!r}; expected http(s)://… or '' for not set")
        return url

    @model_validator(mode="after")
    def _has_no_twins(self) -> Self:
        cards: tuple[_Card, ...] = (*self.models, *self.assets)
        for what, values in (
            ("id", [card.id for card in cards]),
            ("file name", [card.file.name.lower() for card in cards]),
        ):
            twins = sorted({value for value in values if values.count(value) > 1})
            if twins:
                raise ValueError(f"the {what} {twins[0]!r} occurs twice")
        # A file of the project must be downloadable once a base URL is set.
        homeless = [card.id for card in cards if card.file.url is None]
        if homeless:
            raise ValueError(f"{homeless[0]!r} has no url; only models of the user may lack one")
        return self


class UserCardFile(_Strict):
    """A model card beside its weights in the user's models folder."""

    schema_version: Literal[1]
    model: ModelCard
