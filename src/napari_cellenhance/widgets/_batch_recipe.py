"""What a batch does with each image: a filter, what was done with a layer, or a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_cellenhance.core.errors import CellEnhanceError, ParameterError
from napari_cellenhance.widgets._enhance_parts import column
from napari_cellenhance.widgets._filter_picker import FilterPicker
from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._layer_picker import image_layers
from napari_cellenhance.widgets._layers import METADATA_KEY
from napari_cellenhance.widgets._outputs import OutputChoice
from napari_cellenhance.widgets._status import alarm
from napari_cellenhance.widgets._strength import StrengthSlider
from napari_cellenhance.widgets._viewer_combo import ViewerCombo
from napari_cellenhance.workflows.batch_look import recipe_of
from napari_cellenhance.workflows.batch_recipe import (
    Recipe,
    from_record,
    kind_of,
    sentence,
    step_for_model,
    write_recipe,
)
from napari_cellenhance.workflows.catalog import list_filters
from napari_cellenhance.workflows.requests import EnhanceRequest, SegmentOptions

__all__ = ["RecipeForm", "dtypes_for", "made_layers", "with_objects"]

_WAYS = (("A filter, chosen here", "filter"), ("As a layer was made", "layer"), ("From a file", "file"))
_DTYPES = {
    "float32": "float32 (exact)", "uint16": "uint16 (0…1 as 0…65535)", "uint8": "uint8 (0…1 as 0…255)",
    "same": "as each file, rounded",
}  # fmt: skip


def made_layers(viewer: Any) -> list[Any]:
    """Layers that tell how they were made, the topmost first."""
    return [layer for layer in image_layers(viewer) if layer.metadata.get(METADATA_KEY)]


def dtypes_for(recipe: Recipe) -> tuple[str, ...]:
    """Pixel types that go with the last step of a recipe."""
    match kind_of(recipe.steps[-1]):
        case "enhance":
            return ("float32", "uint16", "uint8")
        case "segment":
            return ("float32",)
    return ("float32", "same")


def with_objects(recipe: Recipe, options: SegmentOptions | None, *, measures: bool) -> Recipe:
    """The recipe with labels and a table where they are wished for, and possible."""
    if options is not None and not recipe.finds_objects:
        recipe = replace(recipe, labels=options)
    return replace(recipe, measure=True) if measures and recipe.finds_objects else recipe


class RecipeForm(QWidget):
    """Holds what was chosen; :meth:`recipe` makes one recipe of it.

    Parameters
    ----------
    viewer : ViewerModel
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.way = QComboBox()
        for title, data in _WAYS:
            self.way.addItem(title, data)
        describe(self.way, "Recipe", "Where it is said what is done with each image.")
        self.filters, self.strength = FilterPicker(list_filters()), StrengthSlider()
        self.strength.suggest.setVisible(False)  # it looks at one image, and here there are many
        self.dark = QCheckBox("Objects are dark")
        self.dark.setToolTip("Objects are darker than the ground (bright field, stained tissue).")
        self.layers = ViewerCombo(
            viewer, made_layers, name="Layer", first="Choose a result…",
            tip="A result of this program; the other images are made in the same way, earlier steps included.",
        )  # fmt: skip
        self.file = QLineEdit()
        self.file.setPlaceholderText("Recipe (JSON), or a result (OME-TIFF)")
        describe(self.file, "File", "A recipe (JSON), or a result of this program: it is repeated.")
        self.choose = QPushButton("Choose…")
        self.choose.setToolTip("Choose a recipe (JSON), or an image that this program made.")
        self.outputs = OutputChoice()
        self.outputs.wants_points.setVisible(False)
        self.measure = QCheckBox("Measure objects (table)")
        self.measure.setToolTip("A table beside each result, one row for each object, and one table of all files.")
        self.dtype = QComboBox()
        describe(self.dtype, "Pixel type", "Pixel type of the results, which are OME-TIFF files.")
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.save = QPushButton("Save recipe…")
        self.save.setToolTip("Keep the recipe as JSON, for other batches, other people, and the terminal.")
        self._lay_out()
        self._connect()
        if made_layers(viewer):
            self.way.setCurrentIndex(self.way.findData("layer"))
            self.layers.choose(viewer.layers.selection.active)
        self._on_filter()

    def _lay_out(self) -> None:
        line = QWidget()
        row = QHBoxLayout(line)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.file, 1)
        row.addWidget(self.choose)
        self.pages = QStackedWidget()
        for page in (column(self.filters, self.strength, self.dark), column(self.layers), column(line)):
            self.pages.addWidget(page)
        self._form = new_form()
        self._form.addRow("Pixel type", self.dtype)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.way)
        layout.addWidget(self.pages)
        layout.addWidget(self.outputs)
        layout.addWidget(self.measure)
        layout.addLayout(self._form)
        layout.addWidget(self.words)
        layout.addWidget(self.save)

    def _connect(self) -> None:
        self.way.currentIndexChanged.connect(self._on_changed)
        self.filters.picked.connect(self._on_filter)
        self.layers.picked.connect(self._on_changed)
        self.file.textChanged.connect(self._on_changed)
        self.choose.clicked.connect(self._on_choose)
        self.strength.changed.connect(self._on_changed)
        self.outputs.changed.connect(self._on_changed)
        for number in (self.outputs.threshold, self.outputs.min_size):
            number.valueChanged.connect(self._on_changed)
        self.outputs.method.currentIndexChanged.connect(self._on_changed)
        for box in (self.dark, self.measure, self.outputs.split_touching):
            box.toggled.connect(self._on_changed)
        self.dtype.activated.connect(self._on_changed)
        self.save.clicked.connect(self._on_save)

    # --- what it says -------------------------------------------------------------------

    def recipe(self) -> Recipe:
        """The recipe.

        Raises
        ------
        CellEnhanceError, OSError
            Nothing is chosen, or it cannot be read or repeated.
        """
        options = self.outputs.segment()
        recipe = with_objects(self._chosen(), options, measures=self.measure.isChecked())
        dtype = self.dtype.currentData()
        return replace(recipe, dtype=dtype) if dtype in dtypes_for(recipe) else recipe

    @property
    def file_as_it_is(self) -> str:
        """The chosen JSON file, where nothing was added to what it says; else empty."""
        path = self.file.text().strip()
        if self.way.currentData() != "file" or Path(path).suffix.lower() != ".json":
            return ""
        try:
            return path if recipe_of(path) == self.recipe() else ""
        except (CellEnhanceError, OSError):
            return ""

    def _chosen(self) -> Recipe:
        match self.way.currentData():
            case "filter":
                return self._of_filter()
            case "layer":
                layer = self.layers.layer()
                if layer is None:
                    raise ParameterError("choose a layer that this program made; its recipe is repeated")
                return from_record(layer.metadata[METADATA_KEY])
        path = self.file.text().strip()
        if not path:
            raise ParameterError("choose a recipe (JSON), or an image that this program made")
        return recipe_of(Path(path).expanduser())

    def _of_filter(self) -> Recipe:
        info = self.filters.info()
        if info is None:
            raise ParameterError("there is no filter; import or train one")
        step = step_for_model(info.id)
        if isinstance(step, EnhanceRequest):
            step = replace(step, strength=self.strength.value, objects_are_dark=self.dark.isChecked())
        return Recipe(steps=(step,))

    def show_error(self, message: str) -> None:
        """Show a sentence in place of the recipe."""
        self.words.setText(alarm(message))

    # --- slots --------------------------------------------------------------------------

    @guarded
    def _on_filter(self) -> None:
        info = self.filters.info()
        if info is not None:
            self.strength.set_info(info.strength)
            is_filter = isinstance(step_for_model(info.id), EnhanceRequest)
            self.strength.setVisible(is_filter)
            self.dark.setVisible(is_filter)
        self._on_changed()

    @guarded
    def _on_changed(self) -> None:
        self.pages.setCurrentIndex(self.way.currentIndex())
        for i in range(self.pages.count()):  # only the page in front asks for room
            page = self.pages.widget(i)
            if page is not None:
                policy = page.sizePolicy()
                policy.setVerticalPolicy(
                    policy.Policy.Preferred if i == self.pages.currentIndex() else policy.Policy.Ignored
                )
                page.setSizePolicy(policy)
        try:
            base = self._chosen()
            has_own = base.finds_objects
            self.outputs.setVisible(not has_own and kind_of(base.steps[-1]) != "segment")
            self.measure.setEnabled(has_own or self.outputs.segment() is not None)
            self._fill_dtypes(dtypes_for(base))
            self.words.setText(f"Recipe: {sentence(self.recipe())}.")
            self.save.setEnabled(True)
        except (CellEnhanceError, OSError) as error:
            self.save.setEnabled(False)
            self.show_error(error_sentence(error))
        self.changed.emit()

    def _fill_dtypes(self, wanted: tuple[str, ...]) -> None:
        if tuple(self.dtype.itemData(i) for i in range(self.dtype.count())) == wanted:
            return
        chosen = self.dtype.currentData()
        self.dtype.clear()
        for name in wanted:
            self.dtype.addItem(_DTYPES[name], name)
        self.dtype.setCurrentIndex(max(0, self.dtype.findData(chosen)))
        self._form.setRowVisible(self.dtype, len(wanted) > 1)

    @guarded
    def _on_choose(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Recipe, or a result", self.file.text(), "Recipes and results (*.json *.ome.tif *.tif *.tiff)"
        )
        if path:
            self.file.setText(path)

    @guarded
    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save recipe", "recipe.json", "Recipes (*.json)")
        if path:
            write_recipe(path, self.recipe())

    def release(self) -> None:
        """Stop following the viewer."""
        self.layers.release()
