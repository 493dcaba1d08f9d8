"""A verb's outputs are its own while it runs: none is an input, and no other process writes them."""

from collections.abc import Iterable
from pathlib import Path

import click

from edgeprune.base.outputs import locked, refuse_inputs, refuse_one_name, refuse_remains


def own(outputs: Iterable[Path | None], inputs: Iterable[Path | str | None] = ()) -> None:
    """Takes the outputs that were named, until the verb ends.

    Args:
        outputs: files or folders; None where an option was left out.
        inputs: paths, or names that may be paths.

    Raises:
        InputError: an output is an input, is what a failed run kept, or is written by another process; or two are one.
    """
    named = [path for path in outputs if path]
    refuse_inputs(named, [Path(given) for given in inputs if given])
    refuse_one_name(named)
    for path in named:
        refuse_remains(path)
        click.get_current_context().with_resource(locked(path, "results"))
