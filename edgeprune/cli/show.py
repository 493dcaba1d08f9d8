"""What verbs share in speaking to a person: one JSON object or a table on standard output."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from edgeprune.base.table import Row, plain, render_table


def show_json(content: Any) -> None:
    """One object, a dataclass or a mapping; a figure that is unknown is null, never NaN."""
    click.echo(json.dumps(plain(content), allow_nan=False, default=str))


def show_table(rows: Sequence[Row], columns: Mapping[str, tuple[str, str]]) -> None:
    """An aligned table."""
    click.echo(render_table(rows, columns))
