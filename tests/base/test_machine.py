"""What is said of the machine that something ran on."""

from pathlib import Path

import pytest

from edgeprune.base.machine import temperatures_c, x86_flags

X86 = "processor\t: 0\nmodel name\t: a CPU\nflags\t\t: fpu avx2 avx_vnni\nprocessor\t: 1\nflags\t\t: fpu\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\n"


@pytest.mark.parametrize(("text", "flags"), [(X86, {"fpu", "avx2", "avx_vnni"}), (ARM, set()), (None, set())])
def test_flags_are_those_of_x86(tmp_path: Path, text: str | None, flags: set[str]) -> None:
    if text is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text(text)
    assert x86_flags(tmp_path) == flags


def test_of_zones_that_share_a_type_the_hottest_counts(tmp_path: Path) -> None:
    """As the sensors of a server's two processors, and `acpitz` of many boards."""
    zones = [("acpitz", "27800"), ("cpu", "91000"), ("cpu", "45000"), ("acpitz", "60000"), ("cpu", "off")]
    for index, (kind, degrees) in enumerate(zones):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{index}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(f"{kind}\n")
        (zone / "temp").write_text(f"{degrees}\n")
    assert temperatures_c(tmp_path) == {"acpitz": 60.0, "cpu": 91.0}
