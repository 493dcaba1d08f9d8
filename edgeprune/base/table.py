"""Rows and results as an aligned text table, CSV, or JSON."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from edgeprune.base.files import write_atomic

Row = Any  # a dataclass, or a mapping
MISSING = "-"
OPTIONAL = {
    "optional": True
}  # metadata of a dataclass's field that is no key of its JSON where it is None: was not asked for
INLINE = {
    "inline": True
}  # metadata of a field with a mapping whose keys stand in JSON in its place, among the row's own


def optional_where(rule: Callable[[Any], bool]) -> Mapping[str, Any]:
    """As OPTIONAL, for those rows alone that the rule is true of."""
    return {"optional": rule}


def render_table(rows: Sequence[Row], columns: Mapping[str, tuple[str, str]]) -> str:
    """An aligned table: a header, a rule, a line per row; the same on a terminal, in a pipe and in a log.

    Args:
        rows: a dataclass or a mapping per line; fields without a column are left out.
        columns: for each field, in order, its header and the format of its values (`".3f"`, `",d"`, `""`). A dot in its
            name leads into it: `"latency_ms.p50"`. A value that is None or not there shows as `-`, true as `yes`.
    """
    numeric = [all(_is_figure(lookup(row, key)) for row in rows) for key in columns]
    lines = [[header for header, _ in columns.values()]]
    lines += [[_cell(lookup(row, key), form) for key, (_, form) in columns.items()] for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def lookup(row: Row, key: str) -> Any:
    """The value of a field or at a key; `a.b` is `b` of what is at `a`. None where it is not there."""
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
    return value


def plain(value: Any) -> Any:
    """A result as JSON has it: a dataclass by the names of its fields, a tuple as a list."""
    if is_dataclass(value):
        held = [(each, getattr(value, each.name)) for each in fields(value)]
        found: dict[str, Any] = {}
        for each, deep in held:
            if "inline" in each.metadata:
                found |= plain(deep)
            elif deep is not None or not _is_left_out(value, each):
                found[each.name] = plain(deep)
        return found
    if isinstance(value, Mapping):
        return {key: plain(deep) for key, deep in value.items()}
    return [plain(deep) for deep in value] if isinstance(value, list | tuple) else value


def _is_left_out(row: Any, field: Field[Any]) -> bool:
    """Whether a field of a row that is None is no key of its JSON."""
    optional = field.metadata.get("optional", False)
    return bool(optional(row) if callable(optional) else optional)


def flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as one level of dotted keys: what a CSV can hold."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": deep for inner, deep in flatten(value).items()}
        else:
            flat[key] = value
    return flat


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows with a header; what is nested gets dotted columns, None an empty cell, floats all their digits.

    Raises:
        InputError: the folder can't be written to.
        RunError: the disk is full.
    """
    flat = [flatten(plain(row)) for row in rows]
    keys = list(dict.fromkeys(key for row in flat for key in row))
    with write_atomic(path, "the table") as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, keys, lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)


def write_json(path: Path, content: Any) -> None:
    """Writes one JSON document, indented. Not-a-number is no JSON: pass None for what is unknown.

    Raises:
        InputError: the folder can't be written to.
        RunError: the disk is full.
        ValueError: a number is not finite.
    """
    with write_atomic(path, "the report") as partial:
        partial.write_text(json.dumps(plain(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _cell(value: Any, form: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(each, form) for each in value)
    return MISSING if value is None else format(value, form)


def _is_figure(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
