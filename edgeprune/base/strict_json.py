"""JSON that others wrote, as strict as the standard: finite numbers, unique keys, printable text, and bounds."""

import json
import math
from typing import Any, NoReturn

from edgeprune.base.errors import InputError

MOST_VALUES = 50_000
MOST_DEPTH = 32
INT_LIMIT = 2**63  # what 64 bits hold
INT_DIGITS = 19  # of it; Python itself refuses to convert thousands of them


class _Refused(ValueError):
    """What is wrong with a text, without where."""


def parse_json(text: str, where: str, again: str = "copy it again") -> Any:
    """The content of a JSON text.

    Args:
        where: how a message begins: "bundle out/b: manifest.json".
        again: how it ends.

    Raises:
        InputError: it is damaged, has a number that is not finite or too large, a key twice, text with control
            characters, or is deeper or longer than anything that edgeprune writes.
    """
    try:
        content = json.loads(
            text, parse_constant=_constant, parse_float=_finite, parse_int=_whole, object_pairs_hook=_unique
        )
        _check(content)
    except RecursionError:
        raise InputError(f"{where} is damaged (deeper than {MOST_DEPTH} levels); {again}") from None
    except ValueError as error:  # json's own is one
        raise InputError(f"{where} is damaged ({error}); {again}") from None
    return content


def _constant(text: str) -> NoReturn:
    raise _Refused(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused(f"{text[:40]} is too large a number")
    return value


def _whole(text: str) -> int:
    if len(text.lstrip("-")) > INT_DIGITS or abs(int(text)) >= INT_LIMIT:
        raise _Refused(f"{text[:40]} is too large a number")
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        again = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Refused(f"key {again[:80]!r} is there twice")
    return content


def _check(content: Any) -> None:
    """Depth, number of values, and text, level by level: recursion has a limit of its own."""
    level, values, depth = [content], 0, 0
    while level:
        values, depth = values + len(level), depth + 1
        if values > MOST_VALUES:
            raise _Refused(f"more than {MOST_VALUES:,} values")
        if depth > MOST_DEPTH:
            raise _Refused(f"deeper than {MOST_DEPTH} levels")
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                check_text(value)
            elif isinstance(value, list):
                below += value
            elif isinstance(value, dict):
                below += value.keys()
                below += value.values()
        level = below


def check_text(text: str) -> None:
    """Control characters steer a terminal, and half a surrogate pair can't be written anywhere.

    Raises:
        ValueError: it has one, other than a tab or a line break.
    """
    if not text.isprintable():
        for character in text:
            if (
                (character < " " and character not in "\t\n\r")
                or "\x7f" <= character <= "\x9f"
                or _surrogate(character)
            ):
                raise _Refused(f"{text[:80]!r} has a control character")


def _surrogate(character: str) -> bool:
    return "\ud800" <= character <= "\udfff"
