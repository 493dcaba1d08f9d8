"""RAPL energy counters of x86 CPUs (Intel, AMD), through Linux's powercap."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeprune.energy.meter import NoSensor, check_rails
from edgeprune.energy.sampling import CounterSum, SampledMeter

DOMAINS = "sys/class/powercap/intel-rapl:*"
# Counters wrap after as little as five minutes at full load: they are read often enough to see each wrap.
PERIOD_S = 10.0


@dataclass(frozen=True)
class Domain:
    """A counter in microjoules and the energy at which it starts again."""

    rail: str
    energy_uj: Path
    range_j: float

    def joules(self) -> float:
        """A reading; OSError or ValueError where it can't be read."""
        return int(self.energy_uj.read_text()) / 1e6


def find_domains(root: Path) -> list[Domain]:
    """Every domain: `package-0`, `psys`, and their parts as `package-0/core`, `package-0/dram`."""
    folders = {folder.name: folder for folder in sorted(root.glob(DOMAINS)) if (folder / "energy_uj").exists()}
    names = {key: (folder / "name").read_text().strip() for key, folder in folders.items()}
    domains = []
    for key, folder in folders.items():
        parent = key.rpartition(":")[0]  # intel-rapl:0:1 is a part of intel-rapl:0
        rail = f"{names[parent]}/{names[key]}" if parent in names else names[key]
        range_uj = float((folder / "max_energy_range_uj").read_text())
        domains.append(Domain(rail, folder / "energy_uj", range_uj / 1e6))
    return domains


def open_rapl(root: Path, rails: Sequence[str] | None, total_of: Sequence[str] | None) -> SampledMeter:
    """The RAPL domains of this machine; `rails` leaves out all others, total_of names those that are summed.

    The total is that of the CPU packages. Their parts and `psys` (the whole platform, where there is one, which
    contains the packages) are reported but not summed.

    Raises:
        NoSensor: no RAPL, readable by root only, or a domain that it doesn't have.
    """
    domains = find_domains(root)
    if not domains:
        raise NoSensor(f"no RAPL counters under {root / 'sys/class/powercap'}")
    for domain in domains:
        try:
            domain.joules()
        except PermissionError as error:
            raise NoSensor(
                "RAPL is there but readable by root only; type: "
                f"sudo chmod a+r {root / DOMAINS}/energy_uj (lasts until the next boot)"
            ) from error
        except (OSError, ValueError) as error:
            raise NoSensor(f"RAPL is there but {domain.energy_uj} can't be read ({error})") from error
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
