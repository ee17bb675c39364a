"""Print the table of rules: what happens to channels at every operator."""

from __future__ import annotations

import click

from ..reports.page import Table
from . import options, output


@click.command(cls=options.Verb)
@options.json_option
def command(as_json: bool) -> None:
    """Print the table of rules: what happens to channels at every operator."""
    from ..rules.table import operator_table

    rows = [
        {
            "domain": row.domain,
            "operator": row.op,
            "status": row.status,
            "along": row.along,
            "rule": row.summary,
        }
        for row in operator_table()
    ]
    if as_json:
        output.print_json("ops", {"rules": rows})
        return
    named = [{**row, "operator": "::".join(filter(None, (row["domain"], row["operator"])))} for row in rows]
    columns = ("operator", "status", "along", "rule")
    output.print_table(Table(columns, tuple(tuple(row[c] for c in columns) for row in named)))
