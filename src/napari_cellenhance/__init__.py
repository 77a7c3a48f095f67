"""Enhance microscopy images: learned and classical filters behind one strength slider.

>>> from napari_cellenhance import enhance  # doctest: +SKIP
>>> better = enhance(image, strength=8)  # doctest: +SKIP

Importing this package loads neither torch nor napari; the first call does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_cellenhance.workflows.bioimageio import export_bioimageio, import_bioimageio
    from napari_cellenhance.workflows.python_api import enhance, train_nunet
    from napari_cellenhance.workflows.python_check import check
    from napari_cellenhance.workflows.python_compare import comparison_figure, resolution
    from napari_cellenhance.workflows.python_denoise import denoise, train_n2v
    from napari_cellenhance.workflows.python_measure import compare_images, line_profile, measure_pair
    from napari_cellenhance.workflows.python_restore import restore, train_care
    from napari_cellenhance.workflows.python_separate import separate, train_semantic
    from napari_cellenhance.workflows.python_teach import segment, train_aep, train_voidseg
    from napari_cellenhance.workflows.recipe_run import run_recipe

__all__ = [
    "__version__",
    "check",
    "compare_images",
    "comparison_figure",
    "denoise",
    "enhance",
    "export_bioimageio",
    "import_bioimageio",
    "line_profile",
    "measure_pair",
    "resolution",
    "restore",
    "run_recipe",
    "segment",
    "separate",
    "train_aep",
    "train_care",
    "train_n2v",
    "train_nunet",
    "train_semantic",
    "train_voidseg",
]


def _installed_version() -> str:
    """Version written at build time, else that of the installed distribution."""
    try:
        from napari_cellenhance._version import version
    except ModuleNotFoundError:  # a checkout that was never installed
        from importlib.metadata import PackageNotFoundError
        from importlib.metadata import version as distribution_version

        try:
            return distribution_version("napari-cellenhance")
        except PackageNotFoundError:
            return "0.0.0+unknown"
    return str(version)


__version__ = _installed_version()


def __getattr__(name: str) -> Any:
    """Load public names on first use (PEP 562)."""
    if name == "enhance":
        from napari_cellenhance.workflows.python_api import enhance

        return enhance
    if name in ("export_bioimageio", "import_bioimageio"):
        from napari_cellenhance.workflows import bioimageio

        return getattr(bioimageio, name)
    if name == "check":
        from napari_cellenhance.workflows.python_check import check

        return check
    if name in ("comparison_figure", "resolution"):
        from napari_cellenhance.workflows import python_compare

        return getattr(python_compare, name)
    if name in ("compare_images", "line_profile", "measure_pair"):
        from napari_cellenhance.workflows import python_measure

        return getattr(python_measure, name)
    if name == "train_nunet":
        from napari_cellenhance.workflows.python_api import train_nunet

        return train_nunet
    if name in ("denoise", "train_n2v"):
        from napari_cellenhance.workflows import python_denoise

        return getattr(python_denoise, name)
    if name in ("restore", "train_care"):
        from napari_cellenhance.workflows import python_restore

        return getattr(python_restore, name)
    if name in ("separate", "train_semantic"):
        from napari_cellenhance.workflows import python_separate

        return getattr(python_separate, name)
    if name == "run_recipe":
        from napari_cellenhance.workflows.recipe_run import run_recipe

        return run_recipe
    if name in ("segment", "train_aep", "train_voidseg"):
        from napari_cellenhance.workflows import python_teach

        return getattr(python_teach, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
