"""The options of a camera URI: synthetic://street?seed=1&frames=300."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlsplit

from edgeprune.errors import InputError, choose

LONGEST = 18  # digits of a number


class Option(NamedTuple):
    """A whole number, and the least and the most that may be given."""

    default: int
    least: int
    most: int | None = None


def split_uri(uri: str) -> SplitResult:
    """`urlsplit`.

    Raises:
        InputError: brackets that hold no address.
    """
    try:
        return urlsplit(uri)
    except ValueError as error:
        raise InputError(f"{uri} is no URI ({error}); type synthetic://street?seed=1 or csi://0") from error


def read_options(uri: str, known: Mapping[str, Option]) -> dict[str, int]:
    """Every known option, from the URI's query or by default.

    Raises:
        InputError: an unknown option (names the nearest match), or a value that isn't a whole number in range.
    """
    options = {key: option.default for key, option in known.items()}
    for key, text in parse_qsl(split_uri(uri).query, keep_blank_values=True):
        _, least, most = choose(known, key, f"option of {uri}:")
        if not text.isdecimal() or len(text) > LONGEST or int(text) < least or (most is not None and int(text) > most):
            expected = f"from {least} up" if most is None else f"from {least} to {most}"
            raise InputError(f"{key}={text!r} in {uri}: a whole number {expected} is expected")
        options[key] = int(text)
    return options
