"""Results of a batch that the guards doubt, in the table of the dock and in the sentence at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt

from napari_cellenhance.widgets._batch_pages import ended_sentence
from napari_cellenhance.widgets._batch_table import FileRow, FilesTable, state_text
from napari_cellenhance.workflows.batch import BatchOutcome, BatchResult


def _outcome(check: str) -> BatchOutcome:
    return BatchOutcome(
        source=Path("a.tif"), name="a.tif", state="done", targets=(), seconds=1.0, check=check,
        warnings=("Two objects are lost.",),
    )  # fmt: skip


def test_a_doubtful_result_is_told_where_it_is_chosen(qtbot: Any) -> None:
    table = FilesTable()
    qtbot.addWidget(table)
    table.model.rows = [
        FileRow("a.tif", "done", outcome=_outcome("doubt")), FileRow("b.tif", "done", outcome=_outcome("fine")),
    ]  # fmt: skip
    assert [state_text(row) for row in table.model.rows] == ["done, doubtful", "done"]
    tips = [table.model.data(table.model.index(n, 0), Qt.ItemDataRole.ToolTipRole) for n in range(2)]
    assert tips == ["a.tif: Doubtful. Two objects are lost.", "b.tif"]
    told = ended_sentence(BatchResult(outcomes=(_outcome("doubt"), _outcome("fine")), n_files=2))
    assert "1 result is doubtful: choose it to read why" in told
    assert "doubtful" not in ended_sentence(BatchResult(outcomes=(_outcome("fine"),), n_files=1))


def test_the_column_of_states_grows_with_its_words(qtbot: Any) -> None:
    table = FilesTable()
    qtbot.addWidget(table)
    table.resize(350, 300)
    table.show()
    table.model.rows = [FileRow("a.tif", "skipped", outcome=_outcome("doubt")), FileRow("b.tif", "skipped")]
    table.model.layoutChanged.emit()
    table.show_tally()
    needed = table.view.fontMetrics().horizontalAdvance("done before, doubtful")
    assert needed < table.view.columnWidth(1) < needed + 40
