"""RAPL energy counters of x86 CPUs (Intel, AMD), through Linux's powercap."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgeprune.runtime.meters.meter import NoSensor, NotHere, check_rails, distinct
from edgeprune.runtime.meters.sampling import CounterSum, SampledMeter

Value = TypeVar("Value")

DOMAINS = "sys/class/powercap/intel-rapl:*"
# Counters wrap after as little as five minutes at full load, and are read far more often, for `watts()`. A reading takes
# microseconds.
PERIOD_S = 0.5


@dataclass(frozen=True)
class Domain:
    """A counter in microjoules and the energy at which it starts again."""

    rail: str
    energy_uj: Path
    range_j: float

    def joules(self) -> float:
        """A reading; OSError or ValueError where it can't be read."""
        return _microjoules(self.energy_uj) / 1e6


def _microjoules(path: Path) -> int:
    """OSError where it can't be read, ValueError where it holds no count."""
    count = int(path.read_text())
    if count < 0:
        raise ValueError(f"{count} is no count")
    return count


def _need(path: Path, read: Callable[[Path], Value]) -> Value:
    """What a file holds; NoSensor where that is nothing."""
    try:
        if value := read(path):
            return value
        reason = "there is nothing in it"
    except (OSError, ValueError) as error:
        reason = _said(error)
    raise NoSensor(f"RAPL is there but {path} can't be read ({reason})")


def find_domains(root: Path) -> list[Domain]:
    """Every domain: `package-0`, `psys`, and their parts as `package-0/core`, `package-0/dram`.

    Raises:
        NoSensor: a file of a domain is missing, or holds nothing that can be understood.
    """
    folders = {folder.name: folder for folder in sorted(root.glob(DOMAINS))}
    labels, ranges_j = {}, {}
    for key, folder in folders.items():
        labels[key] = _need(folder / "name", lambda path: path.read_text().strip())
        ranges_j[key] = _need(folder / "max_energy_range_uj", _microjoules) / 1e6
    parents = {key: key.rpartition(":")[0] for key in folders}  # intel-rapl:0:1 is a part of intel-rapl:0
    tops = [key for key in folders if parents[key] not in folders]
    rails = dict(zip(tops, distinct([(labels[key], key) for key in tops]), strict=True))
    parts = [key for key in folders if key not in rails]
    named = distinct([(f"{rails[parents[key]]}/{labels[key]}", key) for key in parts])
    rails |= dict(zip(parts, named, strict=True))
    return [Domain(rails[key], folder / "energy_uj", ranges_j[key]) for key, folder in folders.items()]


def _said(error: Exception) -> str:
    """Without the path, which stands beside it."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def open_rapl(root: Path, rails: Sequence[str] | None, total_of: Sequence[str] | None) -> SampledMeter:
    """The RAPL domains of this machine; `rails` leaves out all others, total_of names those that are summed.

    The total is that of the CPU packages. Their parts and `psys` (the whole platform, where there is one, which
    contains the packages) are reported but not summed.

    Raises:
        NoSensor: no RAPL, readable by root only, damaged, or a domain that it doesn't have.
    """
    domains = find_domains(root)
    if not domains:
        raise NotHere(f"no RAPL counters under {root / 'sys/class/powercap'}")
    for domain in domains:
        try:
            domain.joules()
        except PermissionError as error:
            raise NoSensor(
                "RAPL is there but readable by root only; type: "
                f"sudo chmod a+r {root / DOMAINS}/energy_uj (lasts until the next boot)"
            ) from error
        except (OSError, ValueError) as error:
            raise NoSensor(f"RAPL is there but {domain.energy_uj} can't be read ({_said(error)})") from error
    present = {domain.rail: domain for domain in domains}
    check_rails([*(rails or ()), *(total_of or ())], list(present), "RAPL")
    if total_of is None:
        total_of = [rail for rail in present if rail.startswith("package") and "/" not in rail]
    measured = [present[rail] for rail in (present if rails is None else dict.fromkeys([*rails, *total_of]))]
    return SampledMeter(
        name="rapl",
        status=f"measured by RAPL, total = {' + '.join(total_of)} (counted by the CPU; not the whole machine)",
        read=lambda: {domain.rail: domain.joules() for domain in measured},
        new_sum=lambda: CounterSum({domain.rail: domain.range_j for domain in measured}),
        period_s=PERIOD_S,
        total_of=total_of,
    )
