"""What the runs of a study say: a row for each number of images and network, as files and as a plot."""

import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeprune.base.errors import InputError
from edgeprune.base.statistics import Extremes, extremes
from edgeprune.base.table import write_csv, write_json
from edgeprune.evaluate.plot import new_figure, save, style
from edgeprune.lab.labels.study import Contestant, Found

logger = logging.getLogger(__name__)

COLOURS = ("#3b6fb6", "#d1602b")  # of the ViT, of the peer


@dataclass(frozen=True)
class LabelsRow:
    """One network at one number of images: means over the seeds; `spread`: of mIoU over them.

    Attributes:
        points_over_peer: of a ViT, in mIoU, paired by seed; `points_spread`: its extremes over the seeds.
    """

    images: int
    network: str
    seeds: int
    miou: float
    spread: Extremes
    by_seed: list[float]
    boundary_f: float | None
    small_things_miou: float | None
    points_over_peer: float | None
    points_spread: Extremes | None


def tabulate(found: Found, two: Sequence[Contestant], images: Sequence[int], seeds: Sequence[int]) -> list[LabelsRow]:
    """A row for each number of images and network."""
    peer = next(each.name for each in two if each.peer)
    rows = []
    for count in images:
        for each in two:
            runs = [found[each.name, count, seed] for seed in seeds]
            miou = [one.miou for one in runs]
            over = [100 * (one.miou - found[peer, count, seed].miou) for one, seed in zip(runs, seeds, strict=True)]
            rows.append(
                LabelsRow(
                    images=count,
                    network=each.name,
                    seeds=len(runs),
                    miou=statistics.mean(miou),
                    spread=extremes(miou),
                    by_seed=miou,
                    boundary_f=_mean([one.boundary_f for one in runs]),
                    small_things_miou=_mean([one.small_things_miou for one in runs]),
                    points_over_peer=None if each.peer else statistics.mean(over),
                    points_spread=None if each.peer else extremes(over),
                )
            )
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if len(known) == len(values) else None


def plot_labels(rows: Sequence[LabelsRow], path: Path) -> None:
    """mIoU against the number of images (logarithmic), a line for each network, the spread over seeds around it.

    Raises:
        InputError: matplotlib is missing, the path can't be written.
    """
    figure = new_figure(6.0, 3.8)
    axes = figure.subplots()
    networks = list(dict.fromkeys(row.network for row in rows))
    for network, colour in zip(networks, COLOURS, strict=True):
        own = [row for row in rows if row.network == network]
        images = [row.images for row in own]
        axes.plot(images, [100 * row.miou for row in own], "o-", color=colour, lw=1.4, ms=4, label=network)
        least, most = ([100 * value for value in each] for each in zip(*(row.spread for row in own), strict=True))
        axes.fill_between(images, least, most, color=colour, alpha=0.2, lw=0)
    axes.set(xscale="log", xlabel="labelled images", ylabel="mIoU (%)")
    axes.set_xticks(images, [str(count) for count in images])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)
    style(axes)
    save(figure, path)


def write_results(rows: Sequence[LabelsRow], two: Sequence[Contestant], out: Path) -> None:
    """`labels.csv`, `labels.json` (with the recipes) and, where matplotlib is installed, `labels.png`."""
    write_csv(out / "labels.csv", rows)
    recipes = {each.name: each.recipe.model_dump(mode="json") for each in two}
    write_json(out / "labels.json", {"recipes": recipes, "rows": rows})
    try:
        plot_labels(rows, out / "labels.png")
    except InputError as error:
        logger.warning(f"no labels.png: {error}")
