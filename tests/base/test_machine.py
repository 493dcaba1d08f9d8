"""What is said of the machine that something ran on."""

from pathlib import Path

import pytest

from edgeprune.base.machine import x86_flags

X86 = "processor\t: 0\nmodel name\t: a CPU\nflags\t\t: fpu avx2 avx_vnni\nprocessor\t: 1\nflags\t\t: fpu\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\n"


@pytest.mark.parametrize(("text", "flags"), [(X86, {"fpu", "avx2", "avx_vnni"}), (ARM, set()), (None, set())])
def test_flags_are_those_of_x86(tmp_path: Path, text: str | None, flags: set[str]) -> None:
    if text is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text(text)
    assert x86_flags(tmp_path) == flags
