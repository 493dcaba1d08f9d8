"""The outputs of a verb, or of a study, are its own while it runs: none is an input, and no other process writes them."""

import logging
import re
from collections.abc import Container, Iterable
from pathlib import Path

import click

from edgeprune.base.errors import InputError
from edgeprune.base.files import check_output, make_folder
from edgeprune.base.outputs import locked, refuse_remains
from edgeprune.base.paths import real_path

logger = logging.getLogger(__name__)

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:")  # how it begins, before its slashes


def own(
    outputs: Iterable[Path | None],
    inputs: Iterable[Path | str | None] = (),
    folders: bool = False,
    among: Iterable[Path | str | None] = (),
    endless: Container[Path] = (),
) -> None:
    """Takes the outputs that were named, until the verb ends.

    Args:
        outputs: None where an option was left out.
        inputs: paths, or names that may be paths.
        folders: whether the outputs are folders, and no files.
        among: names of data sets, and their folders, of which single files are read.
        endless: those of the folders to which all is written that is written; the lock of each lies in it.

    Raises:
        InputError: an output is an input, is what a failed run kept, is of the wrong kind, can't be written to, or is written
            by another process; or two are one. Found here, it costs nothing; at the end of a verb it costs its results.
    """
    named = [path for path in outputs if path]
    refuse_addresses(named)
    refuse_inputs(named, *([Path(given) for given in each if given] for each in (inputs, among)))
    refuse_one_name(named)
    for path in named:
        refuse_remains(path)
        if path.exists() and path.is_dir() != folders:
            raise InputError(f"{path} is a {'file' if folders else 'folder'}; name a {'folder' if folders else 'file'}")
        click.get_current_context().with_resource(locked(path, "results", inside=path in endless))
        if path.is_dir():
            make_folder(path, "results")  # it is there, and is tried
        elif not folders:
            check_output(path, "results")
            if path.exists():
                logger.info(f"{path} is there already; it is replaced at the end")


def refuse_addresses(outputs: Iterable[Path]) -> None:
    """Refuses `rtsp://host/stream` and its like, which would become folders.

    Raises:
        InputError: names it.
    """
    for output in outputs:
        first = output.parts[0] if len(output.parts) > 1 else ""
        if ADDRESS.fullmatch(first) and not Path(first).exists():
            address = str(output).replace(":/", "://", 1)
            raise InputError(f"{address} is an address, and results are written to files; name a file or a folder here")


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path], among: Iterable[Path] = ()) -> None:
    """Refuses an output that is an input, by whatever name or link, or lies in an input folder: a bundle, a camera's images.

    Args:
        among: folders that hold files of the user's own beside those that are read: what is there already is not written
            over, new names are taken.

    Raises:
        InputError: names the output and the input.
    """
    for output in outputs:
        for given in (*inputs, *among):
            if _same(output, given):
                raise InputError(f"{output} is what is read from ({given}); name another file to write to")
        for folder in inputs:
            if _lies_in(output, folder):
                raise InputError(f"{output} lies in {folder}, which is read; name a place outside of it")
        for folder in among:
            if output.is_file() and _lies_in(output, folder):
                raise InputError(f"{output} is among the files that are read from {folder}; name another file")


def _lies_in(path: Path, folder: Path) -> bool:
    return folder.is_dir() and real_path(folder) in real_path(path).parents


def refuse_one_name(outputs: Iterable[Path]) -> None:
    """Refuses two outputs that are one file.

    Raises:
        InputError: names both.
    """
    seen: list[Path] = []
    for output in outputs:
        for other in seen:
            if _same(output, other):
                raise InputError(f"{output} and {other} are one file; name two")
        seen.append(output)


def _same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return real_path(one) == real_path(other)
