"""Layers, or any arrays, with classes painted on them: planes with paint, brought to [0, 1]."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes, select_channels, to_canonical
from napari_cellenhance.core.errors import ImageError, ParameterError
from napari_cellenhance.core.normalize import fit_normalizer, sanitize
from napari_cellenhance.workflows.train_layers import fitting_labels

if TYPE_CHECKING:
    from napari_cellenhance.core.painted import PaintedImage

__all__ = ["PERCENTILES", "PaintedLayer", "classes_of", "digest_of", "normalised", "read_painted"]

PERCENTILES: Mapping[str, float | bool] = {"lo": 0.1, "hi": 99.9, "clip": True}
"""Grey values of a plane that become 0 and 1: those of all shipped networks."""
MAX_PLANES = 400
"""Painted planes that are taken; of more, at equal steps."""

PaintedAs = Literal["classes", "instances"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PaintedLayer:
    """An image and what is painted on it.

    Parameters
    ----------
    name : str
        For messages and for the record on the model card.
    image : array-like
        Any order of axes; lazy arrays are read plane by plane. Never written to.
    axes : str
        One letter per dimension out of ``TCZYX`` and ``S``.
    labels : array-like of int
        Shape of ``image`` with or without its C and S axes. 0 is not painted, 1 background, 2 and above classes.
    channels : "grey" or tuple of one int
        Which channel is looked at; "grey" makes one of colours (luminance) or of channels (mean).
    painted_as : "classes" or "instances"
        With "instances" each object of ``labels`` has a number of its own from 2, and becomes class 2.
    has_border : bool
        Of instances: background that touches an object, and the line between two objects, become class 3.
    is_complete : bool
        Of instances: 0 is background, and objects count from 1 (label images of data sets).
    """

    name: str
    image: Any
    axes: str
    labels: Any
    channels: Literal["grey"] | tuple[int, ...] = "grey"
    painted_as: PaintedAs = "classes"
    has_border: bool = False
    is_complete: bool = False

    def __post_init__(self) -> None:
        if self.painted_as not in ("classes", "instances"):
            raise ParameterError(f"painted_as is {self.painted_as!r}; expected 'classes' or 'instances'")
        if not isinstance(self.channels, str) and len(self.channels) != 1:
            raise ParameterError(f"{len(self.channels)} channels of “{self.name}” were chosen; choose one, or grey")


def read_painted(layers: Sequence[PaintedLayer]) -> list[PaintedImage]:
    """Planes that hold paint, normalised, with classes; copies of everything.

    Raises
    ------
    AxesError
        Axes that do not fit the shape.
    ImageError
        Labels of another shape; nothing painted; one class only; too little of a class; a constant plane.
    ParameterError
        No layer.
    """
    from napari_cellenhance.core.painted import painted_values

    if not layers:
        raise ParameterError("no image was given to learn from; choose at least one layer")
    images = [image for layer in layers for image in _painted_planes(layer)]
    images = images[:: -(-len(images) // MAX_PLANES)] if images else images
    painted_values(images)  # says what is missing, if anything
    return images


def normalised(plane: NDArray[Any]) -> NDArray[np.float32]:
    """Bring one plane to [0, 1] by its percentiles, as at inference; values that are no numbers are filled.

    Parameters
    ----------
    plane : ndarray of shape (Y, X)

    Returns
    -------
    ndarray of float32, shape (Y, X)
        Zeros for a constant plane.
    """
    filled, _ = sanitize(plane)
    normalizer = fit_normalizer("percentile", filled, **PERCENTILES)
    if normalizer.is_flat:
        normalizer = fit_normalizer("minmax", filled)
    return np.clip(normalizer.normalize(filled), 0.0, 1.0).astype(np.float32)


def digest_of(images: Sequence[PaintedImage]) -> str:
    """SHA-256 over all pixels and labels: whether a resumed training sees the same."""
    digest = hashlib.sha256()
    for painted in images:
        digest.update(f"{painted.name}{painted.image.shape}".encode())
        digest.update(np.ascontiguousarray(painted.image).data)
        digest.update(np.ascontiguousarray(painted.labels).data)
    return digest.hexdigest()


def _painted_planes(layer: PaintedLayer) -> Iterator[PaintedImage]:
    from napari_cellenhance.core.painted import PaintedImage

    axes = check_axes(layer.axes, np.shape(layer.image))
    labels = fitting_labels(layer, axes)
    chosen, _ = select_channels(to_canonical(layer.image, axes), axes, layer.channels)
    n_t, _, n_z = (int(n) for n in chosen.shape[:3])
    for t in range(n_t):
        for z in range(n_z):
            ids = np.asarray(labels[t, z])
            if ids.any():
                name = layer.name if n_t * n_z == 1 else f"{layer.name}, plane t {t} z {z}"
                yield PaintedImage(_contrasted(np.asarray(chosen[t, 0, z]), name), classes_of(ids, layer), name)


def _contrasted(plane: NDArray[Any], name: str) -> NDArray[np.float32]:
    image = normalised(plane)
    if image.min() == image.max():
        raise ImageError(f"“{name}” is constant: there is nothing to learn from it; paint on another plane")
    return image


def classes_of(ids: NDArray[Any], layer: PaintedLayer) -> Any:
    """Labels of a plane of a layer as classes; objects are converted as the layer says."""
    from napari_cellenhance.core.painted import from_instances

    if layer.painted_as == "classes":
        return ids
    return from_instances(ids, has_border=layer.has_border, is_complete=layer.is_complete)
