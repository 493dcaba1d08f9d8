"""Where paths lead that people typed."""

import os
from pathlib import Path

from edgeprune.base.errors import InputError


def real_path(path: Path) -> Path:
    """The absolute path without links, `.` and `..`, whether or not something is there.

    Raises:
        InputError: links lead in a circle.
    """
    try:
        return path.resolve()
    except RuntimeError:  # what pathlib raises of it, until Python 3.13
        raise InputError(
            f"{path} leads through a link that leads to itself; remove the link, or name another path"
        ) from None


def from_home(path: str) -> str:
    """A path whose `~` or `~name` is the home of a user; a slash at its end stays.

    Raises:
        InputError: there is no such user.
    """
    found = os.path.expanduser(path)
    if path.startswith("~") and found == path:
        user = path.split("/", 1)[0][1:]
        raise InputError(
            f"{path}: there is no user {user!r} with a home; type the whole path, or ./{path} if it is called so"
        )
    return found
