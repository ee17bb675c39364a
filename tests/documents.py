"""The README and the pages of the manual behind it, taken apart."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .conftest import ROOT

MANUAL = ROOT / ".github" / "docs"
LINKS = MANUAL / "links.md"
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
PAGES = (ROOT / "README.md", *sorted(path for path in MANUAL.glob("*.md") if path != LINKS))


@dataclass(frozen=True)
class Block:
    """A fenced block, and the text that is said to be its output."""

    language: str
    code: str
    output: str | None


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def manual(name: str) -> str:
    """Text of a page of the manual."""
    return read(MANUAL / f"{name}.md")


def fenced(text: str) -> list[tuple[str, str]]:
    """Language and content of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def blocks(text: str) -> Iterator[Block]:
    """The blocks that run."""
    found = fenced(text)
    for (language, code), following in zip(found, [*found, ("", "")][1:], strict=True):
        if language in ("sh", "python"):
            yield Block(language, code, following[1] if following[0] == "text" else None)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> list[str]:
    """What the headings of a page are called in a link."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings]


def definitions(text: str) -> dict[str, str]:
    """Targets of the links that are defined apart from where they are used."""
    return dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", prose(text), re.MULTILINE))


def used(text: str) -> set[str]:
    """Labels of such links, where they are used."""
    return set(re.findall(r"\]\[([^\]]+)\]", prose(text)))


def inline(text: str) -> list[str]:
    """Targets that stand where they are used."""
    return re.findall(r"\]\(([^)]+)\)", prose(text))


def package_page() -> str:
    """What the page of the package holds: the files that pyproject.toml names, one after another."""
    project = tomllib.loads(read(ROOT / "pyproject.toml"))
    return "\n".join(read(ROOT / name) for name in project["tool"]["setuptools"]["dynamic"]["readme"]["file"])
