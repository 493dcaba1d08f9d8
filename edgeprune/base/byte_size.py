"""How much of a disk: `500MB`, `1GB`, `0.5TB`, as people type it."""

import re

from edgeprune.base.errors import InputError

UNITS = {"mb": 10**6, "gb": 10**9, "tb": 10**12}
LEAST, MOST = 10**6, 10**15
_TYPED = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(mb|gb|tb)", re.ASCII)


def read_bytes(given: str, what: str) -> int:
    """`"1GB"` -> 1,000,000,000 bytes.

    Args:
        what: the option, as a message calls it.

    Raises:
        InputError: it is no such size, or not between 1 MB and 1000 TB.
    """
    typed = _TYPED.fullmatch(given.strip().lower())
    size = round(float(typed[1]) * UNITS[typed[2]]) if typed else 0
    if not LEAST <= size <= MOST:
        raise InputError(f"{what} {given[:40]!r} is no size from 1MB to 1000TB; write one as 500MB, 1GB, 2TB")
    return size
