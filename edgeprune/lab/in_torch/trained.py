"""Trains a ViT, pruned and dense, and peers with it; scores each on scenes that none has seen, and times it in FP16 on a GPU.

    python -m edgeprune.lab.in_torch.trained --peer dabnet

RECIPE: a name or a YAML file with phases `sparse` and `dense`, equal but for the policy; `street-small-1024`, a ViT-S of 4,096
tokens, unless told. Resumes where it was stopped. Or the trained.json of a run that is done, whose table is shown again.
"""

import logging
import sys
from pathlib import Path
from typing import Any

import click
import torch
from click.core import ParameterSource

from edgeprune.base.device import check_environment
from edgeprune.base.ending import end_on_signals
from edgeprune.base.errors import InputError
from edgeprune.base.exit_code import run_click
from edgeprune.base.files import write_atomic
from edgeprune.base.inputs import read_text
from edgeprune.base.machine import describe_machine
from edgeprune.base.outputs import locked
from edgeprune.base.strict_json import parse_json
from edgeprune.base.table import plain, render_table, write_csv, write_json
from edgeprune.evaluate.tasks import METRICS
from edgeprune.lab.in_torch.gpu import describe_gpu, fastest_inference, find_gpu, open_gpu_meter
from edgeprune.lab.in_torch.networks import ScoredFrames, list_networks
from edgeprune.lab.in_torch.rounds import MEASURED, Rounds, time_in_rounds
from edgeprune.lab.in_torch.training import check_alike, outcomes, train_networks
from edgeprune.runtime.meters import Meter
from edgeprune.train.recipe import Recipe
from edgeprune.train.recipe_file import load_recipe

logger = logging.getLogger(__name__)

TYPED = "python -m edgeprune.lab.in_torch.trained"
OWN = Path(__file__).parent / "recipes" / "street-small-1024.yaml"
RESULTS = "trained"  # .json, .csv and .txt
SECONDS = 1.0  # a round of one graph lasts so long or longer
COLUMNS: dict[str, tuple[str, str]] = {
    "network": ("network", ""),
    **MEASURED,
    **{name: METRICS["semantic"].columns[name] for name in METRICS["semantic"].brief},
}


def run(
    recipe: Recipe, peers: list[str], out: Path, cache: Path, rounds: Rounds, meter: Meter, compiled: bool = False
) -> dict[str, Any]:
    """Trains what is not trained yet, scores and times it, and writes the results.

    Where the recipe's `device` is `cpu` all of it runs there, in FP32 and launched one kernel after the other: a trial of the
    program, whose times say nothing of a GPU.

    Args:
        compiled: compile each bucket too, as dense and the peers are.

    Returns:
        `recipe`, `frames`, `rounds`, `dtype`, `gpu`, `machine`, `training` (of each phase), and `rows`, see `list_networks`
        and `time_in_rounds`.

    Raises:
        InputError: no GPU, or what `check_alike` and training refuse.
    """
    device = torch.device("cpu") if recipe.device == "cpu" else find_gpu()
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    check_alike(recipe)
    checkpoints = train_networks(recipe, peers, out, cache)
    frames = ScoredFrames.of(recipe, rounds.frames, device)
    with fastest_inference():
        timed = list(list_networks(checkpoints, frames, device, dtype, compiled))
        rows = time_in_rounds(timed, frames.levels, rounds, meter, recipe.name)
    result = {
        "recipe": recipe.model_dump(mode="json"),
        "frames": len(frames.levels),
        "rounds": rounds.count,
        "dtype": str(dtype).removeprefix("torch."),
        "gpu": describe_gpu(device),
        "machine": describe_machine(),
        "training": plain(outcomes(out, peers)),
        "rows": rows,
    }
    write_json(out / f"{RESULTS}.json", result)
    write_csv(out / f"{RESULTS}.csv", rows)
    with write_atomic(out / f"{RESULTS}.txt", "the table") as partial:
        partial.write_text(f"{describe(result)}\n", encoding="utf-8")
    return result


def describe(result: dict[str, Any]) -> str:
    """The table of a result, and what it was measured on."""
    about = f"{result['gpu']['name']}, torch {result['gpu']['torch']}, {result['dtype']}"
    frames = f"{result['frames']} frames that none was trained on, {result['rounds']} interleaved rounds"
    energy = f"energy: {result['rows'][0]['energy_status']}"
    return "\n".join((render_table(result["rows"], COLUMNS), f"{about}; {frames}", energy))


def read_results(path: Path) -> dict[str, Any]:
    """What `run` has written.

    Raises:
        InputError: it is not there, or is something else.
    """
    result = parse_json(read_text(path, "results"), f"results {path}")
    wanted = ("rows", "gpu", "dtype", "frames", "rounds")
    if not isinstance(result, dict) or not all(result.get(key) for key in wanted):
        raise InputError(f"{path} has no {', '.join(wanted)}; name the {RESULTS}.json that `{TYPED}` wrote")
    return result


@click.command(help=__doc__)
@click.argument("recipe", required=False)
@click.option("--peer", "peers", multiple=True, default=("dabnet",), show_default=True, help="Repeatable.")
@click.option("--set", "overrides", multiple=True, metavar="KEY.KEY=VALUE", help="Override a key; repeatable.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for all of it; default: out/gpu/<recipe's name>.")
@click.option("--cache", type=click.Path(path_type=Path), help="Rendered scenes, 2 GB; default: scenes/ in the folder.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--compile-buckets", is_flag=True, help="torch.compile for each bucket too: minutes more.")
def main(
    recipe: str | None,
    peers: tuple[str, ...],
    overrides: tuple[str, ...],
    out: Path | None,
    cache: Path | None,
    rounds: int,
    compile_buckets: bool,
) -> None:
    check_environment()
    if recipe is not None and recipe.endswith(".json"):
        refuse_others(recipe)
        click.echo(describe(read_results(Path(recipe))))
        return
    found = load_recipe(recipe or OWN, list(overrides))
    folder = out or Path("out/gpu") / found.name
    scored = found.validation.frames if found.validation else 1  # `run` refuses a recipe without
    with locked(folder, "results"):
        result = run(
            found,
            list(dict.fromkeys(peers)),
            folder,
            cache or folder / "scenes",
            Rounds(rounds, scored, SECONDS),
            open_gpu_meter(),
            compile_buckets,
        )
    click.echo(describe(result))
    click.echo(f"wrote {folder / RESULTS}.json, {RESULTS}.csv, {RESULTS}.txt")


def refuse_others(path: str) -> None:
    """Refuses options beside results that are shown again."""
    context = click.get_current_context()
    for parameter in context.command.params:
        typed = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if typed and isinstance(parameter, click.Option):
            raise InputError(f"{path} is shown as it is; leave {parameter.opts[0]} out")


if __name__ == "__main__":
    end_on_signals()
    sys.exit(run_click(main, "trained", TYPED))
