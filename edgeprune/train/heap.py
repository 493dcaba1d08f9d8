"""Keeps the memory that a step frees in the process, for the next step.

glibc gives blocks above a threshold back to the kernel as soon as they are freed, and gets them back page by page, zeroed: a
quarter of a training step's time, as the tensors of each step are as large as those of the last (mallopt(3)).
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
KEPT_MOST = 2**31 - 1  # mallopt takes an int: nothing is given back
# what is larger has a mapping of its own; glibc before 2.35 takes half of an arena's heap at most
LARGEST = (2**30, 32 * 2**20)
# with which a user says otherwise
ENVIRONMENT = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory() -> bool:
    """From now on, for the whole process. The process stays as large as it was at its largest.

    Returns:
        whether it does: not where the C library is not glibc, nor where the environment has settings of its own.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in ENVIRONMENT):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):  # musl has no mallopt
        return False
    kept = library.mallopt(M_TRIM_THRESHOLD, KEPT_MOST) == 1
    return kept and any(library.mallopt(M_MMAP_THRESHOLD, size) == 1 for size in LARGEST)
