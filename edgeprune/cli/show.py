"""What verbs share in speaking to a person: one JSON object or a table on standard output."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from edgeprune.base.errors import InputError
from edgeprune.base.table import render_table

as_json = click.option("--json", "json_", is_flag=True, help="Print one JSON object and nothing else on stdout.")


def show_json(content: Mapping[str, Any]) -> None:
    """One object; a figure that is unknown is null, never NaN."""
    click.echo(json.dumps(content, allow_nan=False, default=str))


def show_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, str]]) -> None:
    """An aligned table."""
    click.echo(render_table(rows, columns))


def refuse_beside(flag: str, parameters: Sequence[str]) -> None:
    """Options that the current verb has no use for beside `flag` are refused, not ignored.

    Args:
        parameters: the names that the verb's function gives them.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in parameters and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            raise InputError(f"{flag} has no use for {parameter.opts[0]}; leave one of the two out")
