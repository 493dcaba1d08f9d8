"""What a launcher of several processes (`torchrun`, `accelerate launch`) says in the environment, and who of them speaks.

torch is imported late: the command line asks before it is.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edgeprune.base.errors import RunError

FAILED = "edgeprune/failed"  # in the processes' common store: which of them failed first


def processes_launched() -> int:
    """How many processes were started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def index_of_process() -> int:
    """Which of them this is; 0, the main one, without a launcher."""
    return int(os.environ["RANK"]) if processes_launched() > 1 else 0


@contextmanager
def one_voice() -> Iterator[None]:
    """Inside, the main process alone says what it does, and of those that fail the first one why: what is wrong with a recipe
    all of them see, and one that ends takes the others with it."""
    if processes_launched() == 1:
        yield
        return
    if index_of_process():
        logging.getLogger("edgeprune").setLevel(logging.CRITICAL)
    try:
        yield
        _end_group()
    except KeyboardInterrupt:
        if index_of_process() or not _fails_first():
            sys.exit(3)
        raise
    except Exception as error:
        if not _fails_first():
            sys.exit(3)
        if "gloo" in str(error) or "NCCL" in str(error):
            raise RunError(
                "another process has ended without a word (killed, or out of memory?); start again, the phase goes on where it "
                "stopped"
            ) from error
        raise


def _fails_first() -> bool:
    """Whether no other process has failed before this one. Where they have no store in common yet, all of them are as far as
    each other, and the first of each machine speaks."""
    from torch import distributed as dist

    if not dist.is_initialized():
        return os.environ.get("LOCAL_RANK", "0") == "0"
    own = os.environ["RANK"]
    try:
        found: bytes = dist.distributed_c10d._get_default_store().compare_set(FAILED, "", own)
    except RuntimeError:  # the store went with the process that kept it
        return False
    return found.decode() == own


def _end_group() -> None:
    from torch import distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
