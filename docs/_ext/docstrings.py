"""Sphinx extension: docstrings as this project writes them, made into reStructuredText.

Two habits need help. References are listed once, in the docstring of the module, and its functions point to them:
their ``[1]_`` has no target of its own and becomes plain text. And bars of absolute values, |x|, would be taken for
substitutions. Names for types that are written in brackets, like ``list[tuple[float, str]]``, have no signature.
"""

from __future__ import annotations

import re
from types import GenericAlias
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_REFERENCE = re.compile(r"\[(\d+)\]_")
_LISTED = re.compile(r"^\s*\.\. \[(\d+)\]\s+(.*)$")
_LITERAL = re.compile(r"(``.*?``|`[^`]+`)")


def repaired(lines: list[str]) -> list[str]:
    r"""Docstring lines with lists of references as definitions, references as text, and bars escaped.

    >>> repaired(["Mean |x| ([1]_); ``a | b``.", ".. [1] Otsu 1979."])
    ['Mean \\|x\\| ([1]); ``a | b``.', '| [1] Otsu 1979.']
    """
    return [_of_list(line) or _of_text(line) for line in lines]


def _of_list(line: str) -> str:
    """A listed reference as a line of a line block; empty for other lines."""
    found = _LISTED.match(line)
    if found is None:
        return ""
    indent = line[: len(line) - len(line.lstrip())]
    return f"{indent}| [{found[1]}] {_of_text(found[2])}"


def _of_text(line: str) -> str:
    parts = _LITERAL.split(_REFERENCE.sub(r"[\1]", line))
    if line.lstrip().startswith((">>>", "...")):
        return line
    return "".join(part if part.startswith("`") else part.replace("|", "\\|") for part in parts)


def _on_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = repaired(lines)


def _is_skipped(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    return True if isinstance(obj, GenericAlias) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx, before numpydoc gives names to references."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _on_docstring, priority=100)
    app.connect("autodoc-skip-member", _is_skipped)
    return {"parallel_read_safe": True}
