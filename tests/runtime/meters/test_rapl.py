"""The counters of Intel and AMD CPUs."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.meters import NoSensor, open_meter
from tests.runtime.meters.measured import measure


def set_uj(root: Path, key: str, value: int) -> None:
    (root / f"sys/class/powercap/intel-rapl:{key}/energy_uj").write_text(f"{value}\n")


def test_packages_are_summed_and_their_parts_are_not(rapl: Callable[..., Path]) -> None:
    domains = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "package-1", "1:0": "core", "2": "psys"}
    root = rapl(**domains)
    meter = open_meter("auto", root)
    meter.start()
    set_uj(root, "0", 4_000_000)
    set_uj(root, "0:0", 2_500_000)
    set_uj(root, "1", 3_000_000)
    set_uj(root, "2", 9_000_000)
    energy = meter.stop()
    assert energy.joules == pytest.approx(
        {"package-0": 3, "package-0/core": 1.5, "package-0/dram": 0, "package-1": 2, "package-1/core": 0, "psys": 8}
    )
    assert energy.total_of == ("package-0", "package-1") and energy.total_j == pytest.approx(5.0)
    assert energy.status.startswith("measured by RAPL, total = package-0 + package-1")
    assert energy.sampling_hz is None


def test_counter_wraps_at_its_range(rapl: Callable[..., Path]) -> None:
    root = rapl(**{"0": "package-0"})
    set_uj(root, "0", 99_000_000)
    meter = open_meter("rapl", root)
    meter.start()
    set_uj(root, "0", 2_000_000)
    assert meter.stop().total_j == pytest.approx(3.0)


def test_counter_that_was_reset_did_not_wrap(rapl: Callable[..., Path]) -> None:
    """As after a suspend: 1 J -> 0.5 J of 262144 J is no wrap."""
    root = rapl(**{"0": "package-0"})
    (root / "sys/class/powercap/intel-rapl:0/max_energy_range_uj").write_text("262143328850\n")
    meter = open_meter("rapl", root)
    meter.start()
    set_uj(root, "0", 500_000)
    energy = meter.stop()
    assert energy.total_j is None and "the energy counter of package-0 was reset" in energy.status


DAMAGED = [
    (name, content) for name in ("energy_uj", "max_energy_range_uj") for content in (None, "", "many\n", "-5\n", "\xff")
]


@pytest.mark.parametrize(
    ("name", "content"), [*DAMAGED, ("max_energy_range_uj", "0\n"), ("name", None), ("name", ""), ("name", "\xff")]
)
def test_rapl_with_a_damaged_file(
    rapl: Callable[..., Path], nvml: Callable[..., Any], name: str, content: str | None
) -> None:
    """One line that names the file; `auto` goes on to the next meter."""
    root = rapl(**{"0": "package-0"})
    path = root / f"sys/class/powercap/intel-rapl:0/{name}"
    path.unlink() if content is None else path.write_text(content, encoding="latin-1")
    with pytest.raises(NoSensor, match=f"RAPL is there but .*intel-rapl:0/{name} can't be read"):
        open_meter("rapl", root)
    nvml([], [])
    assert "can't be read" in measure("auto", root).status


@pytest.mark.parametrize("content", [None, "", "many\n", "-5\n"])
def test_rapl_that_is_damaged_while_it_measures(rapl: Callable[..., Path], content: str | None) -> None:
    root = rapl(**{"0": "package-0"})
    meter = open_meter("rapl", root)
    meter.start()
    path = root / "sys/class/powercap/intel-rapl:0/energy_uj"
    path.unlink() if content is None else path.write_text(content)
    energy = meter.stop()
    assert energy.status.startswith("no energy sensor: rapl stopped answering") and energy.total_j is None


def test_domains_of_one_name_are_told_apart(rapl: Callable[..., Path]) -> None:
    root = rapl(**{"0": "package-0", "0:0": "core", "1": "package-0", "1:0": "core", "0:1": "core"})
    meter = open_meter("rapl", root)
    meter.start()
    set_uj(root, "0", 3_000_000)
    set_uj(root, "1", 2_000_000)
    set_uj(root, "0:1", 1_250_000)
    energy = meter.stop()
    first, second = "package-0@intel-rapl:0", "package-0@intel-rapl:1"
    assert energy.joules == pytest.approx({
        first: 2, f"{first}/core@intel-rapl:0:0": 0, f"{first}/core@intel-rapl:0:1": 0.25, second: 1, f"{second}/core": 0,
    })  # fmt: skip
    assert energy.total_of == (first, second) and energy.total_j == pytest.approx(3.0)


def test_rapl_for_root_only(rapl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = rapl(**{"0": "package-0"})
    read_text = Path.read_text

    def as_a_user(path: Path, *arguments: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(path, *arguments)

    monkeypatch.setattr(Path, "read_text", as_a_user)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(InputError, match=r"readable by root only; type: sudo chmod a\+r .*intel-rapl:\*/energy_uj"):
        open_meter("rapl", root)
    energy = measure("auto", root)
    assert energy.status.startswith("no energy sensor: RAPL is there but readable by root only; type: sudo chmod a+r")
    assert energy.total_j is None and "INA3221" not in energy.status  # what is not here is nothing to mend
