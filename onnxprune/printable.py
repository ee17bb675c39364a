"""Names are data: how text that comes from a file is shown.

A name may hold line breaks, terminal controls or characters that reorder what stands beside them, and
a line of output may be a command to the build server that reads it. Here such characters become
escapes as in a Python string; everything else is shown as it is.
"""

from __future__ import annotations

import ast
import inspect
import json
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

_COMMAND = re.compile(
    "##(?=[A-Za-z]*\\[)|::(?=(?:add-|remove-|set-|save-|stop-)[a-z]+|(?:debug|echo|error|group|endgroup|notice|warning)\\b)"
)
"""Begin of what GitHub Actions, Azure Pipelines and TeamCity take for commands."""


def printable(text: str) -> str:
    """Text on one line, in which nothing is a control character or a command.

    What ``str.isprintable`` excludes is escaped: C0 and C1 controls, line breaks, characters of
    format (bidirectional ones among them), surrogates, what Unicode does not assign.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return _COMMAND.sub(lambda found: f"\\x{ord(found[0][0]):02x}{found[0][1]}", text)


def page(lines: Iterable[str]) -> str:
    """Several lines of text, each of which stays one line."""
    return "\n".join(map(printable, lines))


def first_of(names: Sequence[str], shown: int = 1) -> str:
    """Some of several names, and how many more there are.

    Examples
    --------
    >>> first_of(["a", "b", "c"], 2), first_of(["a"])
    ('a, b and 1 more', 'a')
    """
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def plural(count: int, noun: str, several: str = "") -> str:
    """A number of things.

    Examples
    --------
    >>> plural(1, "sample"), plural(1200, "axis", "axes")
    ('1 sample', '1,200 axes')
    """
    return f"{count:,} {noun if count == 1 else several or f'{noun}s'}"


def finite(value: Any) -> Any:
    """JSON types in which numbers that are not finite are None: JSON has no others.

    Examples
    --------
    >>> finite({"a": [1.5, float("inf")], "b": float("nan")})
    {'a': [1.5, None], 'b': None}
    """
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(document: Any) -> str:
    """A document as JSON with the same characters escaped: what reads it gets the true names."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    if not text.replace("\n", "").isprintable():
        text = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    return _COMMAND.sub(lambda found: f"\\u{ord(found[0][0]):04x}{found[0][1]}", text)


def parsed(source: str) -> ast.Module:
    """Syntax tree of some code, with its docstrings: under ``python -OO`` those of Python 3.14 have none."""
    tree = compile(source, "<source>", "exec", ast.PyCF_ONLY_AST, optimize=0)
    assert isinstance(tree, ast.Module)
    return tree


def docstring(function: Callable[..., Any]) -> str:
    """Docstring of a function, from its source where Python was told to drop docstrings (-OO)."""
    if function.__doc__ is not None:
        return inspect.cleandoc(function.__doc__)
    try:
        tree = parsed(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # there is no source: it was made on the fly
        return ""
    (found,) = tree.body
    return ast.get_docstring(found) or "" if isinstance(found, ast.FunctionDef) else ""
