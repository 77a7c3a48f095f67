"""What a restoration learns from: clean layers or files, which are made poor, or pairs of both."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_cellenhance.core.errors import CellEnhanceError
from napari_cellenhance.widgets._checked_layers import CheckedLayers
from napari_cellenhance.widgets._forms import describe, new_form
from napari_cellenhance.widgets._guard import error_sentence, guarded
from napari_cellenhance.widgets._layers import pixel_sizes
from napari_cellenhance.widgets._restore_layer_form import RestoreLayerForm
from napari_cellenhance.widgets._restore_pairs import PairList
from napari_cellenhance.workflows import care_layers as workflow
from napari_cellenhance.workflows.care_layers import BenchAsk
from napari_cellenhance.workflows.denoise_layers import learning_problem
from napari_cellenhance.workflows.synthesize import Synthesis
from napari_cellenhance.workflows.train_care import CareRequest

__all__ = ["RestoreData"]

LAYERS, FOLDER, PAIRS, PAIR_FOLDER = "layers", "folder", "pairs", "pair folder"
_SOURCES = (
    ("Clean layers, made poor", LAYERS), ("A folder of clean images, made poor", FOLDER),
    ("Real pairs: poor and clean layers", PAIRS), ("Real pairs: folders “noisy” and “clean”", PAIR_FOLDER),
)  # fmt: skip

_DEFAULT = CareRequest(data="", out="")
_SCALES = (("Bring clean to poor", "poor"), ("As they are", "own"))
_SCALE_TIP = (
    "Poor and clean images are often scaled differently: other exposure, other file type. “Bring clean to poor” fits "
    "the grey values of each clean image to those of its poor one before anything is learned, and the restored image "
    "keeps the grey values of its input. “As they are” stretches each by its own darkest and brightest places: try "
    "it where the two do not lie exactly on each other."
)


class RestoreData(QWidget):
    """The first part of the page that teaches.

    Parameters
    ----------
    viewer : ViewerModel
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.source = QComboBox()
        for title, data in _SOURCES:
            self.source.addItem(title, data)
        describe(
            self.source, "Learn from", "A few clean images are enough; real pairs of the same places are better still."
        )
        self.clean = CheckedLayers(
            viewer, partial(RestoreLayerForm, viewer), name="Clean images", purpose="learn from", checks_first=False
        )
        for layer in viewer.layers:
            self.clean.check(layer, is_checked=False)  # the one that is open is more likely the one to restore
        self.clean.list.setCurrentRow(-1)
        self.clean.list.setToolTip("Check the layers that look as they should. They are only read.")
        self.pairs = PairList(viewer)
        self.clean_scale = QComboBox()
        for title, data in _SCALES:
            self.clean_scale.addItem(title, data)
        describe(self.clean_scale, "Grey values of the clean image", _SCALE_TIP)
        self.folder = QLineEdit()
        describe(self.folder, "Folder", "Folder with TIFF, OME-TIFF or PNG files.")
        self.choose = QPushButton("Choose…")
        self.choose.setToolTip("Choose the folder.")
        self._place = QWidget()
        row = QHBoxLayout(self._place)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.folder, 1)
        row.addWidget(self.choose)
        self.note = QLabel()
        self.note.setWordWrap(True)
        form = new_form()
        form.addRow("Learn from", self.source)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        self._scale = QWidget()
        scale = new_form(self._scale)
        scale.addRow("Grey values", self.clean_scale)
        for part in (self.clean, self.pairs, self._place, self._scale, self.note):
            layout.addWidget(part)
        self.source.currentIndexChanged.connect(self._on_source)
        self.clean_scale.currentIndexChanged.connect(self._tell)
        for part in (self.clean, self.pairs):
            part.changed.connect(self._tell)
        self.folder.textChanged.connect(self._tell)
        self.choose.clicked.connect(self._ask_folder)
        self._on_source()

    # --- what it says -------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """What is learned from."""
        return str(self.source.currentData())

    @property
    def is_made_poor(self) -> bool:
        """Whether pairs are made from clean images."""
        return self.kind in (LAYERS, FOLDER)

    @property
    def scale(self) -> Any:
        """What clean images are normalised by; the default where they are made poor."""
        return _DEFAULT.clean_scale if self.is_made_poor else self.clean_scale.currentData()

    @property
    def is_files(self) -> bool:
        """Whether images come from files."""
        return self.kind in (FOLDER, PAIR_FOLDER)

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.folder.text()).strip()

    def problem(self, n_dims: Any) -> str:
        """Why there is nothing to learn from; empty if there is."""
        if self.kind == FOLDER:
            return workflow.folder_problem(self.place)
        if self.kind == PAIR_FOLDER:
            return workflow.pair_folder_problem(self.place)
        if self.kind == PAIRS:
            return self.pairs.problem() or workflow.pairs_problem(self.pairs.pairs(), n_dims)
        return self.clean.problem() or learning_problem(self._layers(), n_dims) or self._pixels_differ()

    def data(self) -> Any:
        """What the request takes."""
        if self.is_files:
            return Path(self.place)
        return self.pairs.pairs() if self.kind == PAIRS else self._layers()

    def sentence(self, n_levels: int, n_dims: Any) -> str:
        """How many pairs there are."""
        if self.kind == FOLDER:
            return workflow.pairs_made_of_files(self.place, n_levels)
        if self.kind == PAIR_FOLDER:
            return "Files belong together in the order of their names."
        if self.kind == PAIRS:
            return workflow.real_pairs(self.pairs.pairs(), n_dims)
        return workflow.pairs_made(self._layers(), n_levels, n_dims)

    def name(self) -> str:
        """What to name a model after."""
        if self.is_files:
            return Path(self.place).name
        forms = self.clean.forms()
        layer = self.pairs.rows[0].layers()[1] if self.kind == PAIRS else forms[0].layer if forms else None
        return "" if layer is None else str(layer.name)

    def pixel_sizes(self) -> dict[str, float]:
        """Sizes of the pixels of the first clean layer, in µm, as far as its scale has a unit."""
        forms = self.clean.forms() if self.kind == LAYERS else []
        return _sizes(forms[0]) if forms else {}

    def bench_ask(self, synthesis: Synthesis, n_dims: Any, seed: int, number: int) -> BenchAsk | None:
        """What to look at in the live preview; None where there is nothing."""
        if not self.is_made_poor or self.problem(n_dims):
            return None
        if self.kind == FOLDER:
            source, t, z, channel = Path(self.place), 0, 0, 0
            return BenchAsk(source=source, synthesis=synthesis, n_dims=n_dims, seed=seed, number=number)
        form = self.clean.current_form()
        t, z = form.seen().plane
        channel = dict(zip(form.image.axes_text, form.view().index, strict=False)).get("C", 0)
        return BenchAsk(
            source=form.noisy_layer(), synthesis=synthesis, t=t, z=z, channel=channel, n_dims=n_dims, seed=seed,
            number=number,
        )  # fmt: skip

    def _layers(self) -> tuple[Any, ...]:
        return tuple(form.noisy_layer() for form in self.clean.forms())

    def _pixels_differ(self) -> str:
        forms = self.clean.forms()
        sizes = [round(_sizes(form).get("X", 0.0), 6) for form in forms]
        odd = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
        if odd is None:
            return ""
        names = [str(forms[i].layer.name) for i in (0, odd)]
        return (
            f"The pixels of “{names[0]}” and “{names[1]}” differ in size ({sizes[0]:g} and {sizes[odd]:g} µm). A "
            "network learns one size; check layers of the same."
        )

    # --- slots --------------------------------------------------------------------------

    def _tell(self) -> None:
        self.changed.emit()

    def show_error(self, message: str) -> None:
        """Show a sentence under the choice."""
        self.note.setText(message)

    def say(self, n_levels: int, n_dims: Any, problem: str) -> None:
        """Show how many pairs there are, unless there is a problem."""
        try:
            self.note.setText("" if problem else self.sentence(n_levels, n_dims))
        except CellEnhanceError as error:
            self.note.setText(error_sentence(error))
        self.note.setVisible(bool(self.note.text()))

    @guarded
    def _on_source(self) -> None:
        self.clean.setVisible(self.kind == LAYERS)
        self.pairs.setVisible(self.kind == PAIRS)
        self._place.setVisible(self.is_files)
        self._scale.setVisible(not self.is_made_poor)
        self.changed.emit()

    @guarded
    def _ask_folder(self) -> None:
        title = "Folder of clean images" if self.kind == FOLDER else "Folder with “noisy” and “clean”"
        folder = QFileDialog.getExistingDirectory(self, title, self.place)
        if folder:
            self.folder.setText(folder)

    def release(self) -> None:
        """Stop following the viewer."""
        self.clean.release()
        self.pairs.release()


def _sizes(form: RestoreLayerForm) -> dict[str, float]:
    geometry = form.view().geometry
    return pixel_sizes([float(step) for step in geometry.scale], geometry.units, form.image.axes_text)
