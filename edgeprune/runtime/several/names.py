"""What cameras are called, and what their outputs are called after them."""

import re
from collections.abc import Iterable, Mapping

from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras import what_to_type
from edgeprune.runtime.cameras.pipe import STANDARD_INPUT
from edgeprune.runtime.sinks import SINKS
from edgeprune.runtime.sinks.split import names_a_folder

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", re.ASCII)  # a part of file names, topics and addresses
MOST = 16  # more than one engine serves


def check_cameras(cameras: Mapping[str, str]) -> None:
    """Refuses cameras, by their names, that can't be those of a run.

    Raises:
        InputError: a name can't be, or is another's, too; one is empty; there are too many; or two read standard input.
    """
    lower: dict[str, str] = {}
    for name, uri in cameras.items():
        if not NAME.fullmatch(name):
            raise InputError(
                f"cameras: {name[:80]!r} is no name, which is 1 to 32 letters, digits, '-' and '_', a letter or digit first; "
                "call it such as front or cam-2"
            )
        if name.lower() in lower:
            raise InputError(
                f"cameras: {lower[name.lower()]} and {name} are one name to some disks; call one otherwise"
            )
        lower[name.lower()] = name
        if not uri:
            raise InputError(f"cameras.{name} is empty; give it a camera: {what_to_type()}")
    if len(cameras) > MOST:
        raise InputError(f"cameras: there are {len(cameras)}, {MOST} at most; give the others a run of their own")
    if list(cameras.values()).count(STANDARD_INPUT) > 1:
        raise InputError("cameras: standard input is one stream; give it to one of them")


def outputs_of_cameras(names: Mapping[str, str], cameras: Iterable[str]) -> dict[str, dict[str, str]]:
    """What each camera's own outputs are called. Those that all share (a function, a page) keep their names.

    Args:
        names: of the run, by the keys of SINKS.

    Raises:
        InputError: a name can't be that of such an output.
    """
    for key, name in names.items():
        if not (SINKS[key].writes and names_a_folder(name)):  # a folder has no files of its own, but a folder for each
            SINKS[key].output(name)
    return {camera: {key: SINKS[key].name_for(name, camera) for key, name in names.items()} for camera in cameras}
