"""The options of a camera URI: synthetic://street?seed=1&frames=300."""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlsplit

from edgeprune.base.errors import InputError, choose
from edgeprune.base.masking import masked_uri

DIGITS = 18  # of a number; Python itself refuses to convert thousands of them


class Option(NamedTuple):
    """A whole number, and the least and the most that may be given."""

    default: int
    least: int
    most: int | None = None


def split_uri(uri: str) -> SplitResult:
    """The parts of a URI that names something of this machine: a sensor, a scene.

    Raises:
        InputError: it is none, or has what only a network camera has: a user, a port.
    """
    try:
        parts = urlsplit(uri)
    except ValueError:  # its text may hold the password
        raise InputError(f"{masked_uri(uri)!r} is no URI; check its brackets and its characters") from None
    if not re.fullmatch(r"[\w.-]*", parts.netloc):
        raise InputError(
            f"{masked_uri(uri)}: a name or a number alone is expected, as in csi://0 or synthetic://street"
        )
    return parts


def read_options(uri: str, known: Mapping[str, Option]) -> dict[str, int]:
    """Every known option, from the URI's query or by default.

    Raises:
        InputError: an unknown option (names the nearest match), or a value that isn't a whole number in range.
    """
    shown = masked_uri(uri)
    options = {key: option.default for key, option in known.items()}
    for key, text in parse_qsl(split_uri(uri).query, keep_blank_values=True):
        _, least, most = choose(known, key, f"option of {shown}:")
        whole = text.isascii() and text.isdecimal() and len(text) <= DIGITS
        if not whole or int(text) < least or (most is not None and int(text) > most):
            expected = f"from {least} up" if most is None else f"from {least} to {most}"
            raise InputError(f"{key}={text!r} in {shown}: a whole number {expected} is expected")
        options[key] = int(text)
    return options
