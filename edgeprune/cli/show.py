"""What verbs share in speaking to a person: one JSON object or a table on standard output."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from edgeprune.base.table import Row, plain, render_table

Columns = Mapping[str, tuple[str, str]]
WIDTH = 110  # characters of a terminal


def show_json(content: Any) -> None:
    """One object, a dataclass or a mapping; a figure that is unknown is null, never NaN."""
    click.echo(json.dumps(plain(content), allow_nan=False, default=str))


def show_table(rows: Sequence[Row], columns: Columns) -> None:
    """An aligned table."""
    click.echo(render_table(rows, columns))


def show_wide_table(rows: Sequence[Row], keys: Columns, columns: Columns) -> None:
    """A table of any number of columns, in parts that a terminal is wide enough for; each begins with `keys`."""
    part = dict(keys)
    for name, column in columns.items():
        if len(part) > len(keys) and len(render_table(rows, {**part, name: column}).split("\n")[1]) > WIDTH:
            show_table(rows, part)
            part = dict(keys)
        part[name] = column
    show_table(rows, part)
