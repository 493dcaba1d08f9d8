"""A verb's outputs are its own while it runs: none is an input, and no other process writes them."""

import logging
from collections.abc import Iterable
from pathlib import Path

import click

from edgeprune.base.errors import InputError
from edgeprune.base.files import check_output, make_folder
from edgeprune.base.outputs import locked, refuse_inputs, refuse_one_name, refuse_remains

logger = logging.getLogger(__name__)


def own(
    outputs: Iterable[Path | None],
    inputs: Iterable[Path | str | None] = (),
    folders: bool = False,
    among: Iterable[Path | str | None] = (),
) -> None:
    """Takes the outputs that were named, until the verb ends.

    Args:
        outputs: None where an option was left out.
        inputs: paths, or names that may be paths.
        folders: whether the outputs are folders, and no files.
        among: names of data sets, and their folders, of which single files are read.

    Raises:
        InputError: an output is an input, is what a failed run kept, is of the wrong kind, can't be written to, or is written
            by another process; or two are one. Found here, it costs nothing; at the end of a verb it costs its results.
    """
    named = [path for path in outputs if path]
    refuse_inputs(named, *([Path(given) for given in each if given] for each in (inputs, among)))
    refuse_one_name(named)
    for path in named:
        refuse_remains(path)
        if path.exists() and path.is_dir() != folders:
            raise InputError(f"{path} is a {'file' if folders else 'folder'}; name a {'folder' if folders else 'file'}")
        click.get_current_context().with_resource(locked(path, "results"))
        if path.is_dir():
            make_folder(path, "results")  # it is there, and is tried
        elif not folders:
            check_output(path, "results")
            if path.exists():
                logger.info(f"{path} is there already; it is replaced at the end")
