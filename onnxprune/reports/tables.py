"""A report as tables, Markdown and JUnit XML; the command line prints the tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from xml.etree import ElementTree

from ..checks.compare import Difference
from ..checks.gates import Gate
from ..checks.report import Report, summary
from ..printable import first_of, plural, printable
from .page import Part, Reported, Table, numbers, words

SHOWN = 5
"""Nodes that a sentence names."""

LIMIT = 40
"""Rows of a table of layers in Markdown; pull requests cut long comments."""


def tables(report: Report) -> Iterator[Table]:
    """All that a report says, but for its verdict."""
    if report.change:
        yield outputs(report)
    ranked = [d for d in report.change if d.top1 is not None]
    if ranked:
        agreement = [(d.output, _share(d.top1), _share(d.top5), str(d.samples)) for d in ranked]
        yield Table((*words("agreement"), *numbers("top-1", "top-5", "samples")), tuple(agreement))
    if report.scores:
        scores = [(s.name, f"{s.before:.4f}", f"{s.after:.4f}", f"{s.drop:+.4f}") for s in report.scores]
        yield Table((*words("score"), *numbers("before", "after", "drop")), tuple(scores))
    remarks = [(d.layer or d.output, d.remark) for d in (*report.change, *report.entire) if d.remark]
    if remarks:
        yield Table(words("zero or not finite", "remark"), tuple(remarks))
    if report.entire:
        yield layers("entire (against the original)", report.entire)
        yield layers("single (against the masked original)", report.single)
    elif report.method == "layer by layer" and not report.exact:
        yield replace(layers("wrong layer", [d for d in report.surgery if not d]), rest="--json lists all")
    if report.gates:
        yield gates(report.gates)
    if report.elsewhere:
        yield providers(report)


def gates(checked: Sequence[Gate]) -> Table:
    """What was found, and what was allowed."""
    rows = []
    for gate in checked:
        found, limit = f"{gate.found:.6g}", f"{gate.limit:g}"
        verdict = "passed" if gate else f"FAILED by {gate.excess:.3g}"
        rows.append((gate.name.replace("_", "-"), gate.subject, found, limit, verdict))
    return Table((*words("gate", "of"), *numbers("found", "limit"), *words("")), tuple(rows))


def providers(report: Report) -> Table:
    """One row per execution provider."""
    rows = []
    for one in (replace(report, elsewhere=()), *report.elsewhere):
        found = summary(one.change) if one.change else None
        rows.append((
            one.place, "not verified" if one.problem else "passed" if one else "FAILED",
            one.verdict or "-", f"{found.cosine:.6f}" if found else "-", f"{found.relative:.4g}" if found else "-",
            *(f"{score.after:.4f}" for score in one.scores), *["-"] * (len(report.scores) - len(one.scores)),
            one.precision or "-",
        ))  # fmt: skip
    measured = numbers("cosine", "rel. L2", *(score.name for score in report.scores))
    return Table((*words("provider", "", "surgery"), *measured, *words("precision")), tuple(rows))


def outputs(report: Report) -> Table:
    """Both checks of every output."""
    surgery = {d.output: d for d in report.surgery if report.method == "end to end"}
    rows = []
    for change in report.change:
        check = surgery.get(change.output)
        rows.append((
            change.output,
            f"{check.relative:.1e}" if check is not None else "-",
            f"{check.tolerance:.0e}" if check is not None else "-",
            f"{change.cosine:.6f}", f"{change.worst:.6f}", f"{change.relative:.4g}",
            f"{change.max_abs:.4g}", f"{change.snr:.1f}",
        ))  # fmt: skip
    measured = numbers("surgery", "accepted", "cosine", "worst", "rel. L2", "max-abs", "SNR (dB)")
    return Table((*words("output"), *measured), tuple(rows))


def layers(title: str, differences: Sequence[Difference]) -> Table:
    """One row per tensor, in topological order; wrong ones are marked."""
    tensors = Counter(d.layer for d in differences)
    rows = tuple(
        (
            d.layer if tensors[d.layer] == 1 else f"{d.layer}: {d.output}",
            f"{d.cosine:.6f}",
            f"{d.relative:.1e}",
            f"{d.max_abs:.1e}",
            "" if d.tolerance is None else "ok" if d else f"WRONG, accepted {d.tolerance:.0e}",
        )
        for d in differences
    )
    return Table((*words(title), *numbers("cosine", "rel. L2", "max-abs"), *words("")), rows)


def similarity(report: Report) -> dict[str, float]:
    """Cosine of every layer that was compared; the lowest of its outputs."""
    found: dict[str, float] = {}
    for d in report.entire:
        found[d.layer] = min(d.cosine, found.get(d.layer, 1.0))
    return found


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def findings(report: Report) -> list[str]:
    """What to look at first, one sentence each; failed gates are in the table of gates."""
    found = []
    wrong, diverged = report.wrong, report.diverged
    if wrong is not None:
        where = f"layer '{wrong.layer}'" if wrong.layer else f"output '{wrong.output}'"
        found.append(
            f"surgery bug: {where} is the first that differs from the masked original, by {wrong.relative:.1e}"
        )
    if report.left_out:
        names = first_of(report.left_out, SHOWN)
        found.append(f"surgery not proven: the outputs differ, and nodes cannot be compared alone: {names}")
    if diverged is not None:
        cause = "pruning loss" if wrong is None else "pruning loss or the bug"
        found.append(
            f"{cause}: layer '{diverged.layer}' is the first to diverge from the original, to cosine {diverged.worst:.4f}"
        )
    if report.problem:
        found.append(f"not verified: {report.problem}")
    return [*found, *(f"on {r.place}: {failure(r)}" for r in report.elsewhere if not r)]


def failure(report: Report) -> str:
    """What failed on another provider, in a sentence."""
    gates = [str(gate) for gate in report.gates if not gate]
    return "; ".join([*findings(report), *gates]) or report.headline


def headline(report: Report) -> str:
    """The verdict in a few words."""
    verdict = "not verified" if report.problem else "passed" if report else "FAILED"
    source = f"from '{report.data}'" if report.data else "made up"
    return f"{verdict} on {report.place}, {plural(report.samples, 'sample')} {source}"


def verdict(report: Report) -> str:
    """The same, with the gates that failed."""
    failed = "; ".join(str(gate) for gate in report.gates if not gate)
    return ": ".join(filter(None, (headline(report), failed)))


def markdown(report: Report, more: Sequence[Part] = ()) -> str:
    """GitHub-flavoured Markdown, for a pull request.

    Parameters
    ----------
    more : sequence of Part
        What comes first, behind the verdict.
    """
    parts = [f"### onnxprune verify: {_escaped(headline(report))}"]
    parts += ["\n".join(f"- {_escaped(text)}" for text in findings(report))]
    parts += map(_markdown_part, (*more, *tables(report)))
    return "\n\n".join(filter(None, parts)) + "\n"


def markdown_page(title: str, found: Reported) -> str:
    """The same of any report."""
    parts = [f"### {_escaped(title)}"]
    parts += map(_markdown_part, found.page())
    return "\n\n".join(filter(None, parts)) + "\n"


def _markdown_part(part: Part) -> str:
    if isinstance(part, str):
        return _escaped(part)
    lines = [_row(part.titles)]
    lines.append(_row(["---:" if column.number else "---" for column in part.columns]))
    lines += [_row([_escaped(cell) for cell in row]) for row in part.rows[:LIMIT]]
    if len(part.rows) > LIMIT:
        lines.append(_row([f"and {len(part.rows) - LIMIT} more", *[""] * (len(part.columns) - 1)]))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_|<>\[\]~#&])", r"\\\1", printable(text))


def junit(report: Report, name: str = "onnxprune verify") -> str:
    """JUnit XML: one test for the surgery, one for every gate."""
    cases = [("verification", report.problem)] if report.problem else []
    if report.surgery:
        wrong = report.wrong
        text = (
            ("not proven" if report.left_out else "")
            if wrong is None
            else f"'{wrong.layer or wrong.output}' differs by {wrong.relative:.3g} from the masked original, accepted {wrong.tolerance:.0e}"
        )
        cases.append(("surgery", text))
    cases += [(gate.name.replace("_", "-"), "" if gate else str(gate)) for gate in report.gates]
    cases += [(f"on {one.place}", "" if one else failure(one)) for one in report.elsewhere]
    if not cases:
        cases.append(("runs", ""))
    failures = sum(bool(text) for _, text in cases)
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": "0"}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **counts})
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in measures(report):
        ElementTree.SubElement(properties, "property", {"name": key, "value": f"{value:.6g}"})
    for title, text in cases:
        case = ElementTree.SubElement(suite, "testcase", {"name": title, "classname": "onnxprune"})
        if text:
            ElementTree.SubElement(case, "failure", {"message": printable(text)})
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def measures(report: Report) -> Iterator[tuple[str, float]]:
    """What is measured, by name."""
    for d in report.change:
        for key in ("cosine", "worst", "relative", "max_abs", "top1", "top5"):
            value = getattr(d, key)
            if value is not None:
                yield printable(f"{key} of {d.output}"), value
    for score in report.scores:
        yield f"{score.name} before", score.before
        yield f"{score.name} after", score.after
    if report.latency is not None:
        yield "latency ratio", report.latency.share
