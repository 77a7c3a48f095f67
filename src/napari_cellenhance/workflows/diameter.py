"""How large the objects are: measured from labels, or suggested by the image itself."""

from __future__ import annotations

import numpy as np

from napari_cellenhance.core.errors import ImageError
from napari_cellenhance.workflows._measured import MeasuredImage, open_layer

__all__ = ["measure_diameter", "suggest_diameter"]


def measure_diameter(labels: MeasuredImage) -> float:
    """Median diameter of discs with the areas of the objects, plane by plane, in pixels.

    Raises
    ------
    ImageError
        No object, or no labels.
    """
    from napari_cellenhance.core.object_size import median_diameter

    layer = open_layer(labels)
    planes = [layer.ids(i) for i in range(len(layer.planes))]
    step = max(int(plane.max(initial=0)) for plane in planes)
    # An object of a volume is as many discs as it has planes.
    apart = np.stack([np.where(plane > 0, plane + i * step, 0) for i, plane in enumerate(planes)])
    diameter = median_diameter(apart)
    if diameter is None:
        raise ImageError(f"“{layer.name}” holds no object, so there is no size to measure; type the diameter instead")
    return diameter


def suggest_diameter(image: MeasuredImage) -> float:
    """Diameter at which the blobs of the middle plane respond most, in pixels; 5 to 120.

    Raises
    ------
    ImageError
        A flat image.
    """
    from napari_cellenhance.core import object_size

    layer = open_layer(image)
    return object_size.suggest_diameter(layer.unit(len(layer.planes) // 2))
