"""Power modes of real boards: the numbers and names that their `/etc/nvpmodel.conf` gives, as published, with the place.

The lines are written anew in the form that the file's header states (NVIDIA/skills, `jetson-customize-nvpmodel`); the limits
between them are not: a board's are left out, but for what a test needs.
"""

from pathlib import Path
from typing import NamedTuple


class Board(NamedTuple):
    modes: tuple[str, ...]  # by number
    fastest: str
    number: int


BOARDS = {
    # A public test of power modes ("AGX Orin 64GB: MAXN plus the fixed-TDP modes").
    "agx-orin": Board(("MAXN", "MODE_15W", "MODE_30W", "MODE_50W"), "MAXN", 0),
    # JetPack 6.2. OE4T/meta-tegra, TegraNvpmodelTest: MAXN_SUPER is 2 on p3767-0003; owners print all four.
    "orin-nano": Board(("15W", "25W", "MAXN_SUPER", "7W"), "MAXN_SUPER", 2),
    # JetPack 6.2. The same: MAXN_SUPER is 0 on p3767-0000. The others: Seeed's wiki, reComputer J4012.
    "orin-nx": Board(("MAXN_SUPER", "10W", "15W", "25W"), "MAXN_SUPER", 0),
    # The same wiki, before JetPack 6.2.
    "orin-nx-before": Board(("MAXN", "10W", "15W", "25W"), "MAXN", 0),
    # T5000, L4T 38. The test of the first row ("MAXN is mode 0, the 120 W default is mode 1").
    "thor": Board(("MAXN", "120W", "90W", "70W"), "MAXN", 0),
}


def configuration(names: tuple[str, ...], limits: dict[str, str] | None = None) -> str:
    """A file with these modes. `limits`: lines that stand under a mode, by its name."""
    lines = [
        "# power modes",
        "< PARAM TYPE=CLOCK NAME=GPU >",
        "MAX_FREQ /sys/devices/platform/17000000.gpu/devfreq_dev/max_freq",
        "",
    ]
    for number, name in enumerate(names):
        lines += [f"< POWER_MODEL ID={number} NAME={name} >", (limits or {}).get(name, "CPU_ONLINE CORE_0 1")]
    return "\n".join([*lines, "# mandatory section to configure the default power mode", "< PM_CONFIG DEFAULT=1 >", ""])


def write(root: Path, files: dict[str, str]) -> Path:
    """Files of a board below `root`, by their paths; gives `root`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root
