"""Print the table of rules: what happens to channels at every operator."""

from __future__ import annotations

import click

from . import options, output


@click.command()
@options.json_option
def command(as_json: bool) -> None:
    """Print the table of rules: what happens to channels at every operator."""
    from ..rules import RULES

    rows = [
        {
            "domain": rule.domain,
            "operator": rule.op,
            "status": "pinned" if rule.pinned else "carried",
            "rule": rule.summary,
        }
        for _, rule in sorted(RULES.items())
    ]
    if as_json:
        output.print_json("ops", {"rules": rows})
        return
    named = [{**row, "operator": "::".join(filter(None, (row["domain"], row["operator"])))} for row in rows]  # fmt: skip
    columns = ("operator", "status", "rule")
    output.print_table(columns, ([row[c] for c in columns] for row in named))
