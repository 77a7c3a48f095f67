"""What is known about one model, to read and to copy."""

from __future__ import annotations

import html

from qtpy.QtWidgets import QTextBrowser, QWidget

from napari_cellenhance.workflows.model_shelf import Row, card_sections

__all__ = ["ModelCardView", "card_html"]


class ModelCardView(QTextBrowser):
    """A card that scrolls; its text can be selected. No link in it is followed."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Card of the model")
        self.setToolTip("All that is known about the chosen model; select to copy.")
        self.setOpenLinks(False)
        self.setMinimumHeight(150)

    def show_row(self, row: Row | None) -> None:
        """Show a model, or that none is chosen."""
        self.setHtml("<p>Choose a model above.</p>" if row is None else card_html(row))


def card_html(row: Row) -> str:
    """Card of a model as a small page; everything that came from a file is shown as plain text."""
    card = row.card
    parts = [f"<h3>{html.escape(card.title)}</h3><p>{html.escape(card.summary)}</p>"]
    parts.append(f"<p><b>{html.escape(card.id)}</b>, {html.escape(row.place)}</p>")
    for title, lines in card_sections(card):
        cells = "".join(
            f"<tr><td style='padding-right:8px'><i>{html.escape(name)}</i></td><td>{html.escape(_breakable(value))}"
            "</td></tr>"
            for name, value in lines
        )
        parts.append(f"<h4>{html.escape(title)}</h4><table>{cells}</table>")
    return "".join(parts)


def _breakable(text: str) -> str:
    """Long words, such as hashes, may go on in the next line."""
    return " ".join("\u200b".join(word[i : i + 16] for i in range(0, len(word), 16)) for word in text.split(" "))
