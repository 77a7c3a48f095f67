"""Layers and files with objects, each labelled with a number of its own: planes in their own grey values."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_cellenhance.core.axes import check_axes, select_channels, to_canonical
from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.core.normalize import fit_normalizer, sanitize
from napari_cellenhance.workflows.painted_layers import PaintedLayer
from napari_cellenhance.workflows.train_layers import fitting_labels

if TYPE_CHECKING:
    from napari_cellenhance.core.normalize import Normalizer
    from napari_cellenhance.core.three_classes import ObjectImage

__all__ = ["RawObjects", "brought", "digest_of", "read_object_files", "read_object_layers"]


@dataclass(frozen=True, slots=True, eq=False)
class RawObjects:
    """A plane and its labels as they were given.

    Parameters
    ----------
    plane : ndarray of float32, shape (Y, X)
        Own grey values, finite.
    labels : ndarray of int, shape (Y, X)
    kind : "complete", "painted" or "classes"
        0 is background and objects count from 1; 0 is not painted, 1 background and objects count from 2; or 0 is not
        painted, 1 background, 2 objects, 3 border.
    """

    name: str
    plane: NDArray[np.float32]
    labels: NDArray[np.int32]
    kind: Literal["complete", "painted", "classes"] = "complete"

    def image(self, plane: NDArray[np.float32], *, is_shell_background: bool = False) -> ObjectImage:
        """The objects on a plane that was brought to the range of a network."""
        from napari_cellenhance.core.three_classes import ObjectImage

        if self.kind == "complete":
            return ObjectImage.complete(plane, self.labels, self.name)
        if self.kind == "classes":
            return ObjectImage.of_classes(plane, self.labels, self.name)
        return ObjectImage(plane, self.labels, self.name, is_shell_background)


def read_object_layers(layers: Sequence[PaintedLayer]) -> list[RawObjects]:
    """Planes of layers that hold labels; copies of everything.

    Raises
    ------
    AxesError
        Axes that do not fit the shape.
    ImageError
        Labels of another shape; nothing labelled.
    """
    found = [one for layer in layers for one in _planes_of(layer)]
    return _with_contrast(found)


def _planes_of(layer: PaintedLayer) -> Iterator[RawObjects]:
    axes = check_axes(layer.axes, np.shape(layer.image))
    labels = fitting_labels(layer, axes)
    chosen, _ = select_channels(to_canonical(layer.image, axes), axes, layer.channels)
    n_t, _, n_z = (int(n) for n in chosen.shape[:3])
    kind: Literal["complete", "painted", "classes"] = "classes"
    if layer.painted_as == "instances":
        kind = "complete" if layer.is_complete else "painted"
    for t in range(n_t):
        for z in range(n_z):
            ids = np.asarray(labels[t, z])
            if ids.any():
                name = layer.name if n_t * n_z == 1 else f"{layer.name}, plane t {t} z {z}"
                plane, _ = sanitize(np.asarray(chosen[t, 0, z]))
                yield RawObjects(name, plane.astype(np.float32), _as_ids(ids, name), kind)


def _as_ids(ids: NDArray[Any], name: str) -> NDArray[np.int32]:
    if ids.dtype != np.bool_ and not np.issubdtype(ids.dtype, np.integer):
        raise ImageError(f"the labels of {name} are of type {ids.dtype}; expected whole numbers, as in a labels layer")
    return np.array(ids, np.int32)


def read_object_files(
    path: str | os.PathLike[str], *, data_root: str | os.PathLike[str] | None = None
) -> list[RawObjects]:
    """Images with label images, or with masks whose connected parts are the objects; see ``io.labelled``.

    Raises
    ------
    ImageError
        Nothing there, not readable, or points instead of labels.
    ParameterError
        A source with unknown settings.
    """
    from napari_cellenhance.io.labelled import read_labelled

    found = []
    for labelled in read_labelled(path, data_root=data_root):
        name = f"{labelled.source}, {labelled.name}"
        if labelled.mask is None:
            raise ImageError(f"{name} has points only; expected labelled objects or a mask")
        if labelled.labels is not None:
            found.append(RawObjects(name, labelled.image, labelled.labels))
        else:
            found.append(RawObjects(name, labelled.image, np.where(labelled.mask, 2, 1).astype(np.int32), "classes"))
    return _with_contrast(found)


def _with_contrast(found: list[RawObjects]) -> list[RawObjects]:
    kept = [one for one in found if one.plane.min() < one.plane.max()]
    if not kept:
        raise ImageError("no image has labels and contrast; label objects with numbers, then train")
    return kept


def brought(plane: NDArray[Any], name: str, parameters: dict[str, Any]) -> tuple[NDArray[np.float32], Normalizer]:
    """Bring a plane to the range of a network as at inference: by the normaliser of its card."""
    filled, _ = sanitize(plane)
    normalizer = fit_normalizer(name, filled, **parameters)
    if normalizer.is_flat:
        normalizer = fit_normalizer("minmax", filled)
    return normalizer.normalize(filled).astype(np.float32), normalizer


def digest_of(images: Sequence[RawObjects]) -> str:
    """SHA-256 over all pixels and labels: whether a resumed training sees the same."""
    digest = hashlib.sha256()
    for one in images:
        digest.update(f"{one.name}{one.plane.shape}{one.kind}".encode())
        digest.update(np.ascontiguousarray(one.plane).data)
        digest.update(np.ascontiguousarray(one.labels).data)
    return digest.hexdigest()
