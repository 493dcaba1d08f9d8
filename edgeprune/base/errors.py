"""Errors a person can act on: what was found, what was expected, what to type next.

Every error the user can cause is an `InputError` (exit code 2); a failure while running is a `RunError` (exit code 3).
Only `cli` catches them; everything else raises.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

Choice = TypeVar("Choice")


class EdgepruneError(Exception):
    """Base of the errors that are shown as one line, without a traceback."""

    exit_code = 1


class InputError(EdgepruneError):
    """Bad input: a file, YAML, image, model, bundle, camera or option. Nothing was lost."""

    exit_code = 2


class RunError(EdgepruneError):
    """A failure while running: a stalled camera, a full disk. What was recorded until then stays readable."""

    exit_code = 3


def one_line(text: str) -> str:
    """A message as one line of a terminal: line breaks become spaces, other control characters what they are called.

    File names and keys of files are other people's text, and a terminal obeys what it is sent.
    """
    words = " ".join(text.split())
    if words.isprintable():
        return words
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in words)


def nearest(key: str, known: list[str]) -> str:
    """`"; did you mean 'x'?"` where a known key is close to `key`, else an empty string."""
    match = get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


def choose(choices: Mapping[str, Choice], key: str, what: str) -> Choice:
    """The value of `key` in an explicit dict of choices.

    Raises:
        InputError: the key is unknown; the message lists the choices and the nearest match.
    """
    if key not in choices:
        known = list(choices)
        raise InputError(f"unknown {what} {key!r}; choices: {', '.join(known)}{nearest(key, known)}")
    return choices[key]
