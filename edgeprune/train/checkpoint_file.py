"""What `start` and `teacher` of a phase name: an earlier phase, or a checkpoint in a file of its own."""

from pathlib import Path

from edgeprune.model.zoo import ZOO, find_in_zoo, path_in_zoo
from edgeprune.train.recipe import SUFFIX


def names_file(made: str) -> bool:
    """Whether it is a file of its own."""
    return made.endswith(SUFFIX) or made.startswith(ZOO)


def file_named(made: str) -> Path:
    """That file, whether it is there or not."""
    return path_in_zoo(made) if made.startswith(ZOO) else Path(made)


def find_named(made: str, key: str) -> Path:
    """That file.

    Args:
        key: of the recipe, for messages.

    Raises:
        InputError: the zoo has no such file; of a path the reader says so.
    """
    return find_in_zoo(made, key) if made.startswith(ZOO) else Path(made)
