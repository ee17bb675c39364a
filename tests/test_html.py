"""The report as a page: what it holds, that names cannot harm it, and how it acts in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import pytest

import onnxprune
from models.net import Net
from models.transformers import attention
from onnxprune.html.document import as_section, digest, write_page
from onnxprune.html.folding import SHOWN, Box, fold
from onnxprune.html.layout import draw
from onnxprune.html.network import named
from onnxprune.reports.analysis import inspected
from onnxprune.reports.page import Table, numbers, words

from .conftest import DIGITS, IMAGES, ROOT, Run

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\u202e\"'&{{7*7}}"


class Page(HTMLParser):
    """What a browser makes of a page, as far as the tests ask."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.captions: list[str] = []
        self.rows: list[list[list[str]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "input", "img"):
            self._open.append(tag)
        if tag in self.raw:
            self.raw[tag].append("")
        elif tag == "table":
            self.rows.append([])
        elif tag == "caption":
            self.captions.append("")
        elif tag == "tr":
            self.rows[-1].append([])
        elif tag in ("td", "th"):
            self.rows[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, "tags are nested"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in self.raw:
            self.raw[self._open[-1]][-1] += data
        elif "caption" in self._open:
            self.captions[-1] += data
        elif {"td", "th"}.intersection(self._open):
            self.rows[-1][-1][-1] += data

    @property
    def data(self) -> Any:
        return json.loads(self.raw["script"][0])

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def table(self, title: str) -> list[list[str]]:
        (found,) = [
            rows
            for caption, rows in zip(self.captions, self.rows, strict=True)
            if caption.startswith(title + " (")
        ]
        return found


def deep(blocks: int) -> onnx.ModelProto:
    """A transformer of so many equal blocks, 29 nodes each."""
    net = Net("deep", 0)
    x = net.linear("embed", net.input("tokens", "batch", 6, 12), 12, 32)
    for k in range(blocks):
        y = attention(net, f"attention{k}", net.layer_norm(f"norm1.{k}", x, 32), 6, 32, 4)
        x = net.node("Add", x, y)
        y = net.linear(f"hidden{k}", net.layer_norm(f"norm2.{k}", x, 32), 32, 64)
        error = net.node("Erf", net.node("Div", y, net.scalar(2**0.5)))
        y = net.node("Mul", y, net.node("Add", error, net.scalar(1.0)))
        y = net.linear(f"output{k}", net.node("Mul", y, net.scalar(0.5)), 64, 32)
        x = net.node("Add", x, y)
    return net.build(net.gemm("head", net.node("ReduceMean", x, axes=[1], keepdims=0), 32, 10))


def page_of(model: Any) -> bytes:
    traced = onnxprune.trace(model)
    found = inspected(traced, "net.onnx")
    return write_page("inspect", "net.onnx", "1.0", "onnxprune inspect net.onnx", found.page(), traced)


# What it holds --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slim digits network, its plan and the page of its making."""
    from onnxprune.cli import main

    made = tmp_path_factory.mktemp("html")
    command = ["prune", DIGITS, "-o", made / "slim.onnx", "--plan-out", made / "plan.json", "--provider", "cpu",
               "--html", made / "prune.html", "-q"]  # fmt: skip
    assert main([*map(str, command)]) == 0
    return made


def test_the_page_of_a_pruning_says_what_happened(folder: Path) -> None:
    page = Page((folder / "prune.html").read_text(encoding="utf-8"))
    assert ["parameters", "136,302", "35,390", "26.0%"] in page.table("in numbers")
    assert page.table("group of channels")[1][:4] == ["/stem/conv/Conv", "pruned", "32", "16"]
    assert page.table("blocked channels")[1][-1] == "Gemm '/head/Gemm' -> graph output 'logits'"
    data = page.data
    (group,) = [g for g in data["groups"] if g["name"] == "/stage1/first/conv/Conv"]
    plan = json.loads((folder / "plan.json").read_text())
    (planned,) = [g for g in plan["groups"] if g["name"] == group["name"]]
    assert group["keep"] == planned["keep"]
    gone = [s for k, s in enumerate(planned["scores"]) if k not in planned["keep"]]
    stay = [planned["scores"][k] for k in planned["keep"]]
    assert group["cut"] == [pytest.approx(max(gone), rel=1e-4), pytest.approx(min(stay), rel=1e-4)]
    assert ["stage1.first.conv.weight", 0] in group["members"]
    carried = {name: numbers for _, name, numbers, _ in data["nodes"]}
    assert carried["/stage1/first/conv/Conv"] == carried["/stage1/Relu"] == [data["groups"].index(group)]
    assert carried["/stem/conv/Conv"] == carried["/stage1/Add"] != carried["/stage1/Relu"]
    assert not any(kind == "Constant" for kind, *_ in data["nodes"])


VERBS: dict[str, tuple[list[object], str]] = {
    "clean": ([DIGITS, "-o", "{}/clean.onnx", "--provider", "cpu"], "group of channels"),
    "inspect": ([DIGITS], "group"),
    "verify": ([DIGITS, "{}/slim.onnx", "--plan", "{}/plan.json", "--data", IMAGES, "--samples", 4,
                "--provider", "cpu"], "entire (against the original)"),
    "bench": ([DIGITS, "{}/slim.onnx", "--runs", 1, "--provider", "cpu", "--threads", 1], "in numbers"),
    "sensitivity": ([DIGITS, "--ratios", 0.5, "--samples", 1, "--provider", "cpu"], "group"),
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_write_pages(verb: str, folder: Path, run: Run, tmp_path: Path) -> None:
    arguments, title = VERBS[verb]
    target = tmp_path / "a page.html"
    outcome = run(verb, *(str(a).format(folder) for a in arguments), "--html", target)
    assert outcome.code == 0, outcome.err
    page = Page(target.read_text(encoding="utf-8"))
    assert len(page.table(title)) > 1
    assert len(page.table("group of channels")) > 1
    text = target.read_text(encoding="utf-8")
    assert f"<code>onnxprune {verb} " in text
    assert "a page.html&#39;" in text, "the command is shown as it can be typed again"
    cosines = [cosine for *_, cosine in page.data["nodes"] if cosine is not None]
    assert bool(cosines) == (verb == "verify")
    assert run(verb, *(str(a).format(folder) for a in arguments), "--html", DIGITS).err.startswith(
        "error: refusing to overwrite the input"
    )


def test_columns_that_say_nothing_are_left_out() -> None:
    table = Table(
        (*words("layer", "why"), *numbers("kept", "size")), (("a", "", "-", "1"), ("b", "", "-", "-"))
    )
    section = as_section(table)
    assert [column.title for column in section.columns] == ["layer", "size"]
    assert [[cell.text for cell in row] for row in section.rows] == [["a", "1"], ["b", "-"]]


def test_names_are_data(tmp_path: Path) -> None:
    model = onnx.load(DIGITS)
    for node in model.graph.node:
        if node.name in ("/stem/conv/Conv", "/head/Gemm"):
            node.name += HOSTILE
    traced = onnxprune.trace(model)
    title = f"net{HOSTILE}.onnx"
    found = inspected(traced, title)
    text = write_page("inspect", title, "1.0", f"onnxprune inspect '{title}'", found.page(), traced).decode()
    page = Page(text)
    assert [tag for tag, _ in page.tags if tag in ("img", "iframe", "link", "object", "form")] == []
    assert len(page.raw["script"]) == 2
    assert page.raw["style"]
    shown = HOSTILE.replace("\u202e", r"\u202e")
    assert f"/stem/conv/Conv{shown}" in [name for _, name, *_ in page.data["nodes"]]
    assert page.table("group of channels")[1][0] == f"/stem/conv/Conv{shown}"
    assert "49" not in text.partition("<main>")[0], "nothing in a name is a template"


def test_nothing_comes_from_elsewhere(folder: Path) -> None:
    """Only the page's own script and style may act, by their digests; nothing is fetched."""
    page = Page((folder / "prune.html").read_text(encoding="utf-8"))
    (policy,) = [
        m["content"] or "" for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src '{digest(page.raw['script'][1])}'" in policy
    assert f"style-src '{digest(page.raw['style'][0])}'" in policy
    assert not [a for _, a in page.tags if "src" in a or "style" in a or any(k.startswith("on") for k in a)]
    assert {a["href"] for a in page.all("a")} == {"#report", "#network"}


def test_tables_can_be_read_aloud(folder: Path) -> None:
    page = Page((folder / "prune.html").read_text(encoding="utf-8"))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.captions) == len(page.all("table")) > 3
    columns = [a for a in page.all("th") if a["scope"] == "col"]
    assert {a["aria-sort"] for a in columns} == {"none"}
    assert {a["scope"] for a in page.all("th")} == {"col", "row"}
    regions = [a for a in page.all("div") if a.get("role") == "region"]
    assert all(a.get("aria-label") for a in regions)
    assert all(a["tabindex"] == "0" for a in regions if a.get("class") == "scroll"), (
        "the keyboard scrolls, too"
    )


def test_a_verdict_comes_first(folder: Path, run: Run, tmp_path: Path) -> None:
    """What was passed, what failed and by which gate: in words, and in colour."""
    flags = (DIGITS, folder / "slim.onnx", "--data", IMAGES, "--samples", 4, "--provider", "cpu")
    page = Page((folder / "prune.html").read_text(encoding="utf-8"))
    assert [a for a in page.all("p") if "verdict" in (a.get("class") or "")] == [{"class": "verdict good"}]
    outcome = run("verify", *flags, "--html", tmp_path / "page.html", "--min-cosine", 1)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    top = text[text.index('<p class="verdict bad">') : text.index("<main>")]
    assert re.search(r">FAILED on cpu, 4 samples from [^<]*: min-cosine of [^<]* expected at least 1 ", top)
    (gate,) = Page(text).table("gate")[1:]
    assert (outcome.code, gate[-1].partition(" by ")[0]) == (1, "FAILED")
    assert re.search(r'<td class="bad">FAILED by', text)


# Folding and layout ---------------------------------------------------------------------------


def leaves(boxes: tuple[Box, ...]) -> Iterator[int]:
    """Nodes in the order of the boxes; every level is small and without gaps."""
    assert len(boxes) <= SHOWN
    for one, other in pairwise(boxes):
        assert one.stop == other.start
    for box in boxes:
        if box.inside:
            found = list(leaves(box.inside))
            assert found == list(range(box.start, box.stop))
            yield from found
        else:
            assert len(box) == 1
            yield box.start


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        ("", []),
        ("abcde", ["1"] * 5),
        ("ab" + "cdefgh" * 10 + "ij", ["1", "1", *["6"] * 10, "1", "1"]),
        ("ab" + "cdefgh" * 50 + "ij", ["1", "1", "50 blocks of 6 nodes", "1", "1"]),
        ("abc" * 3 + "xyzw" * 20, ["3", "3", "3", *["4"] * 20]),
        ("a" * 60, [*["3"] * 20]),
    ],
)  # fmt: skip
def test_repeats_are_folded(kinds: str, wanted: list[str]) -> None:
    boxes = fold(list(kinds))
    assert [*leaves(boxes)] == list(range(len(kinds)))
    assert [named(b) if not b.number else str(len(b)) for b in boxes] == wanted


def test_what_repeats_nowhere_is_cut_into_sections() -> None:
    kinds = [str(k) for k in range(5000)]
    boxes = fold(kinds)
    assert [*leaves(boxes)] == list(range(5000))
    assert named(boxes[0]) == "nodes 1 to 160"


def test_arrows_lead_down_and_nothing_lies_on_anything() -> None:
    edges = [(0, 1), (1, 2), (2, 3), (0, 3), (3, 4), (1, 5), (5, 6), (0, 6)]
    drawn = draw(7, edges)
    assert len(set(drawn.boxes)) == 7
    for (one, other), points in zip(edges, drawn.arrows, strict=True):
        assert (points[0], points[-1]) == (drawn.boxes[one], drawn.boxes[other])
        rows = [row for _, row in points]
        assert rows == [rows[0] + k for k in range(len(rows))], "an arrow passes every layer on its way"
        assert not set(points[1:-1]).intersection(drawn.boxes)


def test_seven_thousand_nodes_fit_on_a_page() -> None:
    text = page_of(deep(240))
    assert len(text) < 1_000_000, "measured: 919 kB"
    data = Page(text.decode()).data
    assert len(data["nodes"]) > 6900
    assert max(len(level["inside"]) for level in data["levels"]) <= SHOWN
    assert len(data["drawings"]) < 60, "equal blocks share one picture"


# In a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with playwright.sync_playwright() as engine:
        try:
            started = engine.chromium.launch(executable_path=found, args=flags)
        except playwright.Error as error:
            pytest.skip(f"there is no Chromium: {str(error).splitlines()[0]}")
        yield started
        started.close()


class Visit:
    """A page that is open, and what it complained about."""

    def __init__(self, browser: Any, path: Path, width: int) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 800})
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_text_contents()


@pytest.mark.parametrize("width", [375, 1280])
def test_a_person_sees_groups_and_finds_out_about_them(browser: Any, folder: Path, width: int) -> None:
    visit = Visit(browser, folder / "prune.html", width)
    page = visit.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width, (
        "the page itself never scrolls aside"
    )
    box = page.locator("#picture g[aria-label^='Conv /stage1/first/conv/Conv;']")
    box.focus()
    page.keyboard.press("Enter")
    details = page.locator("#details").inner_text()
    assert "pruned: 16 of 32 channels stay" in details
    assert re.search(r"Cut: the highest score that goes is [\d.]+, the lowest that stays [\d.]+\.", details)
    assert "stage1.first.conv.weight, axis 0" in details
    assert page.locator("#details svg rect").count() == 32
    chosen = [
        label.partition(";")[0]
        for label in page.evaluate(
            "[...document.querySelectorAll('#picture .chosen')].map((box) => box.getAttribute('aria-label'))"
        )
    ]
    assert chosen == ["Conv /stage1/first/conv/Conv", "BatchNormalization /stage1/first/norm/BatchNormalization",
                      "Relu /stage1/Relu"]  # fmt: skip
    colours = page.evaluate(
        "[...document.querySelectorAll('#picture .chosen rect')].map((box) => box.style.fill)"
    )
    assert len(set(colours)) == 1
    sizes = visit.texts("#picture .chosen .size")
    assert set(sizes) == {"32 \u2192 16"}, "what stays of its channels"
    page.locator("#groups button", has_text="/head/Gemm").click()
    seen = "([box, frame]) => box.bottom > frame.top && box.top < frame.bottom"
    boxes = (
        "['#picture .chosen', '#picture'].map((name) => document.querySelector(name).getBoundingClientRect())"
    )
    assert page.evaluate(f"({seen})({boxes})"), "the picture shows it"
    assert page.evaluate("document.querySelector('#details').getBoundingClientRect().top < innerHeight")
    assert "graph output 'logits'" in page.locator("#details").inner_text()
    assert "Way to what blocks it" in page.locator("#details").inner_text()
    assert visit.complaints == []
    assert visit.requests == [(folder / "prune.html").as_uri()]


def test_tables_are_sorted_by_keyboard(browser: Any, folder: Path) -> None:
    visit = Visit(browser, folder / "prune.html", 800)
    table = "#report table >> nth=0"
    head = visit.page.locator(table).locator("thead button", has_text="channels")
    for direction, first in (("ascending", "32 -> 16"), ("descending", "128 -> 64")):
        head.focus()
        visit.page.keyboard.press("Enter")
        assert visit.page.locator(table).locator("tbody td").first.inner_text() == first
        sorts = (
            visit.page.locator(table).locator("thead th").evaluate_all("heads => heads.map(h => h.ariaSort)")
        )
        assert sorts == ["none", direction]


def test_blocks_open_and_close(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "deep.html"
    path.write_bytes(page_of(deep(50)))
    visit = Visit(browser, path, 800)
    block = visit.page.locator("#picture g.folded")
    assert block.count() == 1
    block.focus()
    visit.page.keyboard.press("Enter")
    assert visit.texts("#levels li")[-1] == "50 blocks of 29 nodes"
    visit.page.locator("#picture g.folded").first.click()
    visit.page.locator("#picture g.folded").first.click()
    assert visit.texts("#levels li")[-1] == "block 1 of 50: 29 nodes"
    assert visit.page.locator("#picture g.node").count() == 29
    visit.page.locator("#levels button").first.click()
    assert len(visit.texts("#levels li")) == 1
    assert visit.complaints == []


def test_the_picture_is_one_stop_of_the_keyboard(browser: Any, tmp_path: Path) -> None:
    """With the keyboard alone, on a phone's width: in, through it, into a block, back, and on to what it tells."""
    path = tmp_path / "deep.html"
    path.write_bytes(page_of(deep(50)))
    visit = Visit(browser, path, 375)
    press, focused = visit.page.keyboard.press, "document.activeElement.getAttribute('aria-label') || ''"
    press("Tab")
    press("Tab")
    assert visit.page.evaluate("document.activeElement.textContent") == "Skip to the network"
    press("Enter")
    for _ in range(3):  # the region, which scrolls, and the box in it
        press("Tab")
        if visit.page.evaluate("document.activeElement.tagName") == "g":
            break
    start = visit.page.evaluate(focused)
    press("ArrowDown")
    press("ArrowUp")
    assert visit.page.evaluate(focused) == start
    while not visit.page.evaluate(focused).endswith("opens"):
        press("ArrowDown")
    block = visit.page.evaluate(focused)
    press("Enter")
    assert len(visit.texts("#levels li")) == 2
    press("End")
    press("Escape")
    assert (len(visit.texts("#levels li")), visit.page.evaluate(focused)) == (1, block)
    press("Home")
    press("Enter")
    press("Tab")
    assert visit.page.evaluate("document.activeElement.id") == "details"
    assert start.partition(";")[0] in visit.page.locator("#details").inner_text()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 375
    assert visit.complaints == []


def test_layers_are_told_apart_by_more_than_colour(
    browser: Any, folder: Path, run: Run, tmp_path: Path
) -> None:
    flags = ("--plan", folder / "plan.json", "--html", tmp_path / "page.html", "--provider", "cpu", "-q")
    assert run("verify", DIGITS, folder / "slim.onnx", *flags).code == 0
    visit = Visit(browser, tmp_path / "page.html", 800)
    visit.page.locator("#colours input[value=similarity]").check()
    shown = dict(zip(visit.texts("#picture title"), visit.texts("#picture .size"), strict=True))
    (first,) = [text for title, text in shown.items() if title.startswith("Conv /stem/conv/Conv;")]
    assert first == "1.000", "what it computes of the channels that stay is what it was"
    assert any(text < "0.9" for text in shown.values())
    assert visit.complaints == []


def test_hostile_names_do_nothing_in_a_browser(browser: Any, tmp_path: Path) -> None:
    model = onnx.load(DIGITS)
    for node in model.graph.node:
        node.name = (node.name or node.output[0]) + HOSTILE
    path = tmp_path / "hostile.html"
    path.write_bytes(page_of(model))
    visit = Visit(browser, path, 800)
    visit.page.locator("#picture g[role=button]").first.click()
    assert "<img src=x onerror=alert(1)>" in visit.page.locator("#details").inner_text()
    assert visit.page.locator("img").count() == 0
    assert visit.complaints == []


def test_layers_are_coloured_by_similarity(browser: Any, folder: Path, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "verify.html"
    arguments, _ = VERBS["verify"]
    assert run("verify", *(str(a).format(folder) for a in arguments), "--html", path).code == 0
    visit = Visit(browser, path, 800)
    fills = "[...document.querySelectorAll('#picture .node > rect')].map((box) => box.style.fill)"
    before = visit.page.evaluate(fills)
    visit.page.get_by_label("by similarity").check()
    after = visit.page.evaluate(fills)
    assert before != after
    labels = visit.page.evaluate(
        "[...document.querySelectorAll('#picture .node')].map((box) => box.getAttribute('aria-label'))"
    )
    (stem,) = [label for label in labels if label.startswith("Conv /stem/conv/Conv;")]
    assert stem.endswith("; cosine 1")


def test_only_reports_build_tables() -> None:
    """What a verb has to say is built in ``reports``; the command line shows it."""
    for path in (ROOT / "onnxprune" / "cli").glob("*.py"):
        assert not re.search(r"\bTable\(|\basdict\(", path.read_text(encoding="utf-8")), path
