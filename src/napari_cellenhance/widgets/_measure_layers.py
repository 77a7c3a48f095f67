"""Layers → what is measured: frozen on the GUI thread, checked to lie on each other; results → layers. No widgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import guess_axes
from napari_cellenhance.core.errors import AxesError, ImageError, ParameterError
from napari_cellenhance.widgets._geometry import Geometry, geometry_of
from napari_cellenhance.widgets._results import METADATA_KEY, LayerTuple
from napari_cellenhance.workflows.detect import Detection, TruePoints
from napari_cellenhance.workflows.measure import MeasuredImage
from napari_cellenhance.workflows.segment import Segmentation

__all__ = [
    "Chosen",
    "FrozenLayer",
    "FrozenPoints",
    "blob_layer",
    "freeze",
    "freeze_points",
    "is_enhanced",
    "matrix_of",
    "misfit",
    "object_layer",
    "outcome_layer",
    "unreadable",
]

OUTCOMES = (("true", "#009e73", "disc"), ("false", "#d55e00", "cross"), ("missed", "#56b4e9", "diamond"))
"""What a point turned out to be, its colour (distinct for colour-blind people) and its symbol."""
_SAME = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenLayer:
    """An image or labels layer at one moment.

    Parameters
    ----------
    name : str
    data : array-like
        Full resolution; a lazy array stays lazy. A colour axis is last.
    is_rgb : bool
    geometry : Geometry
    index : tuple of int
        Where the sliders of the viewer are, in pixels of the layer.
    """

    name: str
    data: Any
    is_rgb: bool
    geometry: Geometry
    index: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Without the colour axis."""
        return tuple(int(n) for n in self.data.shape[: self.geometry.ndim])

    def axes(self, like: FrozenLayer | None = None) -> str:
        """Letters of the dimensions; those of ``like`` where the shapes agree.

        Raises
        ------
        AxesError
            They cannot be guessed.
        """
        if like is not None and like.shape == self.shape:
            return like.axes().replace("S", "") + ("S" if self.is_rgb else "")
        guess = guess_axes(tuple(self.data.shape), is_rgb=self.is_rgb, labels=self.geometry.axis_labels)
        if not guess.axes:
            raise AxesError(f"“{self.name}”: {guess.note}")
        return guess.axes

    def plane_at(self, axes: str) -> tuple[int, int, int]:
        """Position (t, c, z) of the plane in view."""
        at = dict(zip(axes.replace("S", ""), self.index, strict=True))
        return at.get("T", 0), at.get("C", 0), at.get("Z", 0)

    @property
    def n_pixels(self) -> int:
        """Pixels of all planes."""
        return int(np.prod([float(n) for n in self.shape]))


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenPoints:
    """A points layer at one moment; data of shape (N, ndim)."""

    name: str
    data: NDArray[np.float64]
    geometry: Geometry


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Everything the upper part of the panel says.

    Parameters
    ----------
    raw : FrozenLayer
    enhanced : tuple of FrozenLayer
    mask : FrozenLayer or None
        None: automatic.
    only_plane : bool
        Measure the plane in view only.
    is_dark : bool
        Objects are dark in the raw image.
    """

    raw: FrozenLayer
    enhanced: tuple[FrozenLayer, ...] = ()
    mask: FrozenLayer | None = None
    only_plane: bool = False
    is_dark: bool = False

    @property
    def images(self) -> tuple[FrozenLayer, ...]:
        """Raw and enhanced."""
        return (self.raw, *self.enhanced)

    def problem(self) -> str:
        """Why these layers cannot be measured together; empty when they can."""
        for layer in self.images:
            if problem := unreadable(layer):
                return problem
        others = (*self.enhanced, *(() if self.mask is None else (self.mask,)))
        return next(filter(None, (misfit(self.raw, other) for other in others)), "")

    def measured(self, layer: FrozenLayer) -> MeasuredImage:
        """Turn a layer into what a workflow measures."""
        axes = layer.axes(self.raw)
        return MeasuredImage(
            name=layer.name,
            image=layer.data,
            axes=axes,
            objects_are_dark=self.is_dark and layer is self.raw,
            at=layer.plane_at(axes) if self.only_plane else None,
        )

    @property
    def measured_images(self) -> tuple[MeasuredImage, ...]:
        """All images, the raw one first."""
        return tuple(self.measured(layer) for layer in self.images)

    @property
    def measured_mask(self) -> MeasuredImage | None:
        """The mask, or None."""
        return None if self.mask is None else self.measured(self.mask)

    def true_points(self, points: FrozenPoints) -> TruePoints:
        """Annotated points in pixels of the raw image, wherever their layer lies.

        Raises
        ------
        ImageError
            Points without a position along a dimension of the raw image.
        """
        world = _carried(points.data, matrix_of(points.geometry))
        missing = self.raw.geometry.ndim - world.shape[1]
        lengths = self.raw.shape[:missing] if missing > 0 else ()
        if missing > 0 and not self.only_plane and any(n > 1 for n in lengths):
            raise ImageError(
                f"“{points.name}” does not say on which plane of “{self.raw.name}” its points lie; "
                "measure the plane in view only, or annotate with all dimensions"
            )
        matrix = np.asarray(np.linalg.inv(matrix_of(self.raw.geometry)), np.float64)
        if missing > 0:
            # napari lines layers up by their last dimensions; the plane in view is meant.
            here = _carried(np.asarray([self.raw.index], float), matrix_of(self.raw.geometry))[0, :missing]
            world = np.column_stack([np.tile(here, (len(world), 1)), world])
        return TruePoints(name=points.name, points=_carried(world[:, max(0, -missing) :], matrix))


def is_enhanced(layer: Any) -> bool:
    """Whether a layer is a result of this plugin."""
    return METADATA_KEY in layer.metadata


def freeze(layer: Any, dims: Any) -> FrozenLayer:
    """Freeze an image or labels layer; copies labels (they may be painted on meanwhile), no image.

    Raises
    ------
    ImageError
        The shape is not known yet (a dask array with unknown chunks).
    """
    data = layer.data[0] if layer.multiscale else layer.data
    if any(np.isnan(float(n)) for n in data.shape):
        raise ImageError(
            f"the shape of “{layer.name}” is not known, because its dask chunks are unknown; "
            "call compute_chunk_sizes() on the array before adding it"
        )
    ndim = int(layer.ndim)
    inside = np.round(layer.world_to_data(dims.point)).astype(int)[-ndim:]
    is_labels = hasattr(layer, "selected_label")
    return FrozenLayer(
        name=str(layer.name),
        data=data.copy() if is_labels and isinstance(data, np.ndarray) else data,
        is_rgb=bool(getattr(layer, "rgb", False)),
        geometry=geometry_of(layer),
        index=tuple(int(min(max(i, 0), n - 1)) for i, n in zip(inside, data.shape[:ndim], strict=True)),
    )


def freeze_points(layer: Any) -> FrozenPoints:
    """Copy a points layer."""
    return FrozenPoints(
        name=str(layer.name), data=np.array(layer.data, np.float64).reshape(-1, layer.ndim), geometry=geometry_of(layer)
    )


def unreadable(layer: FrozenLayer) -> str:
    """Say why a layer cannot be measured at all; empty when it can."""
    if layer.geometry.ndim < 2:
        return f"“{layer.name}” has one dimension only; choose an image with rows and columns."
    try:
        layer.axes()
    except (AxesError, ImageError, ParameterError) as error:
        return str(error)
    return ""


def misfit(first: FrozenLayer, other: FrozenLayer) -> str:
    """Say why two layers do not lie on each other pixel by pixel; empty when they do."""
    if first.shape[-2:] != other.shape[-2:]:
        sizes = [" × ".join(str(n) for n in layer.shape[-2:]) for layer in (other, first)]
        return (
            f"“{other.name}” is {sizes[0]} px, “{first.name}” {sizes[1]} px. "
            "Measuring compares pixel by pixel: choose layers of one size (enhance the whole layer, not the view)."
        )
    ours, theirs = first.geometry, other.geometry
    steps = np.abs(ours.linear[-2:, -2:] - theirs.linear[-2:, -2:]).max() / max(_SAME, np.abs(ours.scale[-2:]).max())
    if steps > _SAME:
        return (
            f"“{other.name}” has pixels of {_pair(theirs.scale)}, “{first.name}” of {_pair(ours.scale)} (Y, X). "
            "Give both layers the same scale, rotation and shear, or choose others."
        )
    shift = np.abs(ours.translate[-2:] - theirs.translate[-2:]) / np.maximum(_SAME, np.abs(ours.scale[-2:]))
    if shift.max() > 0.01:
        return (
            f"“{other.name}” is shifted by {_pair(theirs.translate - ours.translate)} (Y, X) against “{first.name}”. "
            "Measuring compares pixel by pixel: give both layers the same place, or choose others."
        )
    return ""


def _pair(numbers: NDArray[np.float64]) -> str:
    return " × ".join(f"{float(n):g}" for n in numbers[-2:])


def matrix_of(geometry: Geometry) -> NDArray[np.float64]:
    """Homogeneous matrix from pixels to the world."""
    inner = np.eye(geometry.ndim + 1)
    inner[:-1, :-1], inner[:-1, -1] = geometry.linear, geometry.translate
    return np.asarray(geometry.affine @ inner)


def _carried(points: NDArray[Any], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points @ matrix[:-1, :-1].T + matrix[:-1, -1])


# --- results ----------------------------------------------------------------------------------


def blob_layer(found: Detection, source: FrozenLayer, record: dict[str, Any]) -> LayerTuple:
    """Blobs as a points layer; sizes are diameters, features hold response and radius."""
    features: dict[str, NDArray[Any]] = {"response": found.responses, "radius_px": found.radii_px}
    if found.is_true is not None:
        features["is_true"] = found.is_true
    return (
        found.points,
        {
            "name": f"{found.layer} blobs",
            "features": features,
            "size": 2.0 * found.radii_px if len(found.points) else 10.0,
            "face_color": "transparent",
            "border_color": "#ffb000",
            "border_width": 0.1,
            "symbol": "disc",
            **_common(source, record),
        },
        "points",
    )


def outcome_layer(found: Detection, source: FrozenLayer, record: dict[str, Any], radius_px: float) -> LayerTuple:
    """True, false and missed points in one layer, told apart by colour and symbol; feature ``outcome``."""
    is_true = np.zeros(len(found.points), bool) if found.is_true is None else found.is_true
    names = np.array([*np.where(is_true, "true", "false"), *["missed"] * len(found.missed)], dtype=object)
    looks = {name: (colour, symbol) for name, colour, symbol in OUTCOMES}
    points = np.concatenate([found.points, found.missed])
    return (
        points,
        {
            "name": f"{found.layer} true, false, missed",
            "features": {
                "outcome": names,
                "response": np.concatenate([found.responses, np.full(len(found.missed), np.nan)]),
            },
            "size": np.concatenate([2.0 * found.radii_px, np.full(len(found.missed), 2.0 * radius_px)])
            if len(points)
            else 10.0,
            "face_color": "transparent",
            "border_color": [looks[name][0] for name in names] if len(points) else OUTCOMES[0][1],
            "border_width": 0.15,
            "symbol": [looks[name][1] for name in names] if len(points) else "disc",
            **_common(source, record),
        },
        "points",
    )


def object_layer(found: Segmentation, source: FrozenLayer, record: dict[str, Any]) -> LayerTuple:
    """Objects as a labels layer."""
    common = _common(source, record)
    del common["ndim"]
    return found.labels, {"name": f"{found.layer} objects", "opacity": 0.5, **common}, "labels"


def _common(source: FrozenLayer, record: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {METADATA_KEY: record}, "ndim": source.geometry.ndim, **source.geometry.as_kwargs()}
