"""Sentences that must be seen."""

from __future__ import annotations

import html

__all__ = ["ALARM", "alarm"]

ALARM = "#d9534f"  # readable on the dark and on the light theme


def alarm(text: str) -> str:
    """Rich text of a sentence that must be seen."""
    return f'<span style="color:{ALARM}">{html.escape(text)}</span>'
