"""The options of a camera URI: synthetic://street?seed=1&frames=300."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from edgeprune.errors import InputError, choose


class Option(NamedTuple):
    """A whole number and the least value it may have."""

    default: int
    least: int


def read_options(uri: str, known: Mapping[str, Option]) -> dict[str, int]:
    """Every known option, from the URI's query or by default.

    Raises:
        InputError: an unknown option (names the nearest match), or a value that isn't a whole number in range.
    """
    options = {key: option.default for key, option in known.items()}
    for key, text in parse_qsl(urlsplit(uri).query, keep_blank_values=True):
        least = choose(known, key, f"option of {uri}:").least
        if not text.isdecimal() or int(text) < least:
            raise InputError(f"{key}={text!r} in {uri}: a whole number from {least} up is expected")
        options[key] = int(text)
    return options
