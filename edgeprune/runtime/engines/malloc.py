"""Memory that a library gives back to glibc stays in the process.

OpenVINO takes and frees buffers of hundreds of kilobytes in every inference. glibc gives such memory back to the kernel, which
clears it page by page when it is asked for again: in the smallest tail of a bundle with memory a third of the time, more or
less of it by where the heap's end happens to lie. `mallopt(3)`: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD.
"""

import ctypes
import os
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGEST = 32 << 20  # DEFAULT_MMAP_THRESHOLD_MAX: more is refused
NEVER = (1 << 31) - 1
SAID = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")  # how a user says it, who then decides


@cache
def keep_freed_memory() -> bool:
    """Has freed blocks of up to 32 MB kept for the next call, once in a process; whether that is so now. Not where the C
    library is another one, or the environment says otherwise."""
    if any(name in os.environ for name in SAID):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, LARGEST)) and bool(mallopt(TRIM_THRESHOLD, NEVER))
