"""Freed memory stays in the process: a second block of the same size costs no page faults."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import resource
from edgeprune.train.heap import keep_freed_memory

kept = {kept}
blocks = 20
bytearray(b"x") * 2**24  # 16 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(blocks):
    bytearray(b"x") * 2**24
print(kept, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / blocks)
"""
PAGES = 2**24 / 4096


def faults(kept: str, **environment: str) -> tuple[str, float]:
    """What the program printed: whether memory is kept, and page faults of a block that is as large as one freed before."""
    given = [sys.executable, "-c", PROGRAM.format(kept=kept)]
    ran = subprocess.run(
        given, capture_output=True, text=True, env=environment, check=True, cwd=Path(__file__).parents[2]
    )
    said, count = ran.stdout.split()
    return said, float(count)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_memory_that_was_freed_is_used_again() -> None:
    said, count = faults("keep_freed_memory()")
    assert said == "True"
    assert count < 0.05 * PAGES


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"])
def test_settings_of_the_environment_stay(name: str) -> None:
    said, count = faults("keep_freed_memory()", **{name: "131072"})
    assert said == "False"
    assert count > 0.9 * PAGES
