"""What the menus and the command palette do: open the dock on the selected image, and run."""

from __future__ import annotations

from typing import Any

from napari_cellenhance.widgets._docking import ENHANCE, open_panel

__all__ = [
    "DOCK_TITLE", "apply_recipe", "copy_command", "copy_python", "enhance_selected", "save_selected",
    "segment_selected", "show_recipe",
]  # fmt: skip

DOCK_TITLE = "Enhance cells"


def _selected_image(viewer: Any) -> Any:
    from napari.layers import Image

    layer = viewer.layers.selection.active
    return layer if isinstance(layer, Image) else None


def _tell(message: str) -> None:
    from napari.utils.notifications import show_info

    show_info(message)


def _run_on_selected(*, wants_labels: bool) -> None:
    import napari

    viewer = napari.current_viewer()
    if viewer is None:
        return
    layer = _selected_image(viewer)
    if layer is None:
        _tell("Select an image layer first.")
        return
    panel = open_panel(viewer, ENHANCE, DOCK_TITLE)
    panel.select(layer)
    if wants_labels:
        panel.outputs.wants_labels.setChecked(True)
    panel.run()


def enhance_selected() -> None:
    """Open the dock on the selected image and run it with the settings there."""
    _run_on_selected(wants_labels=False)


def segment_selected() -> None:
    """Open the dock on the selected image, ask for objects too, and run."""
    _run_on_selected(wants_labels=True)


def save_selected() -> list[str]:
    """Ask where to save the selected image, and write it as OME-TIFF; returns the files written."""
    import napari
    from qtpy.QtWidgets import QFileDialog

    from napari_cellenhance.core.errors import CellEnhanceError
    from napari_cellenhance.io.images import safe_name

    viewer = napari.current_viewer()
    layer = None if viewer is None else _selected_image(viewer)
    if layer is None:
        _tell("Select an image layer first.")
        return []
    path, _ = QFileDialog.getSaveFileName(
        None, "Save image as OME-TIFF", f"{safe_name(layer.name)}.ome.tif", "OME-TIFF (*.ome.tif *.tif *.tiff)"
    )
    if not path:
        return []
    from napari_cellenhance.widgets._export import write_ome_tiff

    data, meta, _ = layer.as_layer_data_tuple()
    try:
        return write_ome_tiff(path, data, meta)
    except (CellEnhanceError, OSError) as error:
        from napari.utils.notifications import show_error

        show_error(str(error))
        return []


# --- recipes ------------------------------------------------------------------------------------


def _with_made_layer(work: Any) -> None:
    """Do something with the selected layer that this plugin made; say so where there is none."""
    import napari

    from napari_cellenhance.core.errors import CellEnhanceError

    viewer = napari.current_viewer()
    layer = None if viewer is None else viewer.layers.selection.active
    if layer is None:
        _tell("Select a layer that CellEnhance made first.")
        return
    try:
        work(viewer, layer)
    except CellEnhanceError as error:
        from napari_cellenhance.widgets._guard import error_sentence

        _tell(error_sentence(error))


def show_recipe() -> None:
    """Tell in words how the selected layer was made."""
    from napari_cellenhance.widgets import _recipe_actions as actions

    _with_made_layer(lambda viewer, layer: actions.show_recipe(layer, viewer.window._qt_window))


def copy_python() -> None:
    """Put a program that makes the selected layer again onto the clipboard."""
    from napari_cellenhance.widgets import _recipe_actions as actions

    _with_made_layer(lambda _, layer: _tell(actions.copy_python(layer)))


def copy_command() -> None:
    """Put a command that makes the selected layer again onto the clipboard."""
    from napari_cellenhance.widgets import _recipe_actions as actions

    _with_made_layer(lambda _, layer: _tell(actions.copy_command(layer)))


def apply_recipe() -> None:
    """Do with another image what made the selected layer."""
    from napari.utils.notifications import show_error

    from napari_cellenhance.widgets import _recipe_actions as actions

    _with_made_layer(
        lambda viewer, layer: actions.apply_recipe(viewer, layer, _tell, show_error, viewer.window._qt_window)
    )
