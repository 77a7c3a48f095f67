"""How doubt agrees with errors that are known, as rows and as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from napari_cellenhance.core.doubt import DEFAULT_SHARE, DoubtScore

__all__ = ["SHARES", "doubt_row", "doubts_table"]

SHARES = tuple(sorted({0.02, 0.03, 0.05, 0.1, 0.15, 0.2, DEFAULT_SHARE}))
"""Of the contrast: from which likely error on a pixel is doubted."""
_COLUMNS = (
    "", "doubted from", "pixels doubted", "of them wrong", "wrong ones doubted", "others wrong",
    "mean error of doubted", "of others",
)  # fmt: skip


def doubt_row(image: str, method: str, score: DoubtScore) -> dict[str, Any]:
    """One line of a CSV file."""
    return {"image": image, "method": method} | asdict(score)


def doubts_table(doubts: Sequence[tuple[str, str, DoubtScore]], title_of: Callable[[str], str] = str) -> str:
    """All pixels of all images together: what is doubted from which likely error on, and how wrong it is.

    *Wrong* are pixels whose error exceeds the share of the contrast from which they are doubted.

    Parameters
    ----------
    doubts : sequence of (image, method, DoubtScore)
    title_of : callable
        Name of a method.
    """
    pooled: dict[tuple[str, float], DoubtScore] = {}
    for _, method, score in doubts:
        key = (method, score.share)
        pooled[key] = pooled[key] + score if key in pooled else score
    lines = [f"| {' | '.join(_COLUMNS).strip()} |", "|---|" + "---:|" * (len(_COLUMNS) - 1)]
    for (method, share), score in pooled.items():
        shares = (score.doubted, score.precision, score.recall, score.wrong_trusted)
        cells = [_percent(value) for value in (*shares, score.error_doubted, score.error_trusted)]
        lines.append(f"| {title_of(method)} | {100 * share:g} % | {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"
