"""The page itself: tables as HTML, data for its script, and nothing from elsewhere.

Names are hostile data. jinja2 escapes whatever stands in the text, ``tojson`` whatever is handed to the
script, which puts it on the page as text and never as markup; and the page forbids every script and
style but its own, by their digests.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, Template

from ..coupling.trace import Trace
from ..printable import printable
from ..reports.page import Part, Table, numbers, words
from ..selection.plan import Plan
from .coupled import Coupled, coupled
from .network import Network

HERE = Path(__file__).parent

BAD, GOOD = ("FAILED", "WRONG", "not proven", "not verified"), ("passed", "exact", "ok")
"""How verdicts begin."""

NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its text, and what it is sorted by."""

    text: str
    key: float | str | None


@dataclass(frozen=True, slots=True)
class Section:
    """A table as the template takes it."""

    caption: str
    columns: tuple[Any, ...]
    rows: tuple[tuple[Cell, ...], ...]


def write_page(
    verb: str,
    title: str,
    version: str,
    command: str,
    parts: Iterable[Part],
    traced: Trace | None = None,
    plan: Plan | None = None,
    similarity: Mapping[str, float] | None = None,
    verdict: str = "",
) -> bytes:
    """A report as one HTML file.

    Parameters
    ----------
    title : str
        The models that it is about.
    version : str
        Of onnxprune.
    command : str
        What was typed to make it.
    parts : iterable of Part
        What the verb has to say.
    traced : Trace, optional
        With it the network is drawn, and its groups are listed.
    plan : Plan, optional
        What becomes of the groups.
    similarity : mapping, optional
        Cosine by node, where layers were compared.
    verdict : str
        What the checks say in a few words; empty where there were none.
    """
    parts = list(parts)
    groups = coupled(traced, plan) if traced is not None else []
    network = Network(traced, similarity) if traced is not None else None
    data = {"groups": [group.to_dict() for group in groups]}
    if network is not None:
        data |= network.to_dict()
    style, script = (read(name) for name in ("style.css", "script.js"))
    text = template().render(
        verb=verb,
        version=version,
        title=printable(title),
        command=printable(command),
        verdict=printable(verdict),
        tone=tone,
        lines=[printable(part) for part in parts if isinstance(part, str) and part],
        sections=[as_section(part) for part in parts if isinstance(part, Table)],
        groups=[section for section in map(as_section, group_tables(groups)) if section.rows],
        network=network,
        similarity=bool(similarity),
        data=data,
        style=style,
        script=script,
        digests={"style": digest(style), "script": digest(script)},
    )
    return text.encode()


def template() -> Template:
    """The page, in which all that is filled in is escaped."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment.get_template("page.html")


def read(name: str) -> str:
    """A file that stands beside this one."""
    return (HERE / name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """What a content security policy calls a script or a style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def tone(text: str) -> str:
    """Whether a verdict is good or bad news; empty for all that is none."""
    if text.startswith(BAD):
        return "bad"
    return "good" if text.split(" on ")[0] in GOOD else ""


def as_section(table: Table) -> Section:
    """A table with keys to sort by, without columns that say nothing."""
    told = [any(text not in ("", "-") for text in column) for column in zip(*table.rows, strict=True)]
    shown = [k for k in range(len(table.columns)) if not k or not table.rows or told[k]]
    columns = tuple(table.columns[k] for k in shown)
    rows = tuple(
        tuple(Cell(printable(row[k]), key(row[k]) if table.columns[k].number else None) for k in shown)
        for row in table.rows
    )
    return Section(table.titles[0] or "in numbers", columns, rows)


def key(text: str) -> float | None:
    """The first number of a cell."""
    found = NUMBER.search(text)
    return float(found[0].replace(",", "")) if found else None


def group_tables(groups: list[Coupled]) -> Iterator[Table]:
    """All groups, and the ways to what blocks some of them."""
    free = [g for g in groups if g.status != "blocked"]
    yield Table(
        (
            *words("group of channels", "status"),
            *numbers("channels", "kept", "layers", "tensors"),
            *words("why"),
        ),
        tuple(
            (
                g.name,
                g.status,
                f"{g.channels:,}",
                "-" if g.kept is None else f"{g.kept:,}",
                str(len(g.layers)),
                str(len(g.members)),
                g.reason,
            )
            for g in free
        ),
    )
    yield Table(
        (*words("blocked channels"), *numbers("channels"), *words("why", "way to what blocks them")),
        tuple(
            (g.name, f"{g.channels:,}", g.reason, " -> ".join(g.way)) for g in groups if g.status == "blocked"
        ),
    )
