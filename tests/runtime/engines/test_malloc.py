"""Memory that OpenVINO frees stays in the process: tried in processes of their own, whose allocator it is."""

import os
import subprocess
import sys

import pytest

CODE = """
import ctypes, sys
import numpy as np
from edgeprune.runtime.engines.malloc import keep_freed_memory

def faults():
    with open("/proc/self/stat") as file:
        return int(file.read().rsplit(")", 1)[1].split()[7])

kept = keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def take():
    blocks = [libc.malloc(1 << 20) for _ in range(8)]
    for block in blocks:
        ctypes.memset(block, 1, 1 << 20)
    for block in blocks:
        libc.free(block)
take()
before = faults()
for _ in range(10):
    take()
print(kept, faults() - before)
"""
GLIBC = pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="mallopt is glibc's")


def said(**environment: str) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


@GLIBC
def test_what_is_freed_is_taken_again_without_the_kernel() -> None:
    kept, faults = said()
    assert kept == "True" and faults < 100


@GLIBC
def test_an_environment_that_says_otherwise_decides() -> None:
    """Ten times eight megabytes are 20,480 pages of 4 KB, or 40 of 2 MB."""
    kept, faults = said(MALLOC_MMAP_THRESHOLD_="131072", MALLOC_TRIM_THRESHOLD_="131072")
    assert kept == "False" and faults >= 40
