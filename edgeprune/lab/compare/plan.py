"""What is compared: a plan in YAML, and the recipe that each of its rows is trained by."""

from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError, choose, nearest
from edgeprune.base.reading import parse
from edgeprune.bundle.target import load_target
from edgeprune.lab.compare.spec import Plan, PlanRow, read_plan
from edgeprune.lab.peers.graphs import ROUTES
from edgeprune.lab.peers.training import OF_ANY_NETWORK, check_peer, check_recipe_of_peer, for_a_peer
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.model.weight_files import find_weights
from edgeprune.train.checks import check_phase
from edgeprune.train.recipe import Recipe
from edgeprune.train.recipe_file import load_recipe

DENSE = "dense"  # the row that the others are held against
LOWER_TO = 2  # patches that sides of a lower input are a multiple of: an even grid


def load_plan(name: str | Path) -> Plan:
    """A plan by name (`edgeprune/lab/compare/recipes/`) or path, with its controls, checked down to each row's recipe.

    Raises:
        InputError: unknown key, recipe, phase, policy, option or target; no dense row; more seeds than there are;
            rows that would be trained unequally.
    """
    path, plan = read_plan(name)
    dense = plan.rows.get(DENSE)
    if dense is None or dense.policy or dense.peer or dense.model or dense.seeds:
        raise InputError(f"{path}: rows need one named {DENSE!r} without settings: the others are held against it")
    if plan.controls:
        plan = with_controls(plan)
    for row_name, row in plan.rows.items():
        if (row.seeds or 0) > len(plan.seeds):
            raise InputError(
                f"{path}: row {row_name}: seeds: {row.seeds}, and the plan has {len(plan.seeds)}: {plan.seeds}; give it at "
                "most so many, or name more in `seeds` of the plan"
            )
        if row.peer is not None:
            check_peer_row(plan, row, f"{path}: row {row_name}")
    recipes = {row_name: row_recipe(plan, row_name, plan.seeds[0]) for row_name in plan.rows}
    budgets = {row_name: budget(recipe) for row_name, recipe in recipes.items()}
    unequal = [row_name for row_name in plan.rows if budgets[row_name] != budgets[DENSE]]
    if unequal:
        raise InputError(
            f"{path}: {unequal[0]} would see {budgets[unequal[0]]:,} frames in training and {DENSE} {budgets[DENSE]:,}; "
            "dense gets what sparse gets: give the phases equal `frames`"
        )
    for row_name, recipe in recipes.items():
        try:
            for name, phase in recipe.phases.items():
                check_phase(recipe, name, phase)
            if (peer := plan.rows[row_name].peer) is not None:
                check_peer(peer.name, recipe.model)
                check_recipe_of_peer(recipe)
        except InputError as error:
            raise InputError(f"{path}: row {row_name}: {error}") from None
    if set(plan.precisions) - set(load_target(plan.target).precisions):
        raise InputError(f"{path}: target {plan.target} has no {' or '.join(plan.precisions)}")
    return plan


def engines_of(plan: Plan) -> list[str]:
    """The engines that a peer's graphs are made for: those that the plan names, else the target's.

    Raises:
        InputError: the target leaves its engine open.
    """
    target = load_target(plan.target)
    if not plan.engines and target.candidates:
        raise InputError(
            f"target {plan.target} leaves the engine open, and a peer has a graph for each; give `engines`"
        )
    return plan.engines or [target.engine]


def check_peer_row(plan: Plan, row: PlanRow, where: str) -> None:
    """Refuses a peer that can't be trained or timed as the plan asks for it.

    Raises:
        InputError: an unknown peer, no package of its weights, settings of a ViT, or an engine without a route to INT8.
    """
    assert row.peer is not None
    try:
        check_peer(row.peer.name)
        for engine in engines_of(plan):
            choose(ROUTES, engine, "engine for a peer")
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if row.policy is not None or set(row.model) - OF_ANY_NETWORK:
        raise InputError(
            f"{where}: a peer has no tokens and no blocks; give it no policy, and of `model` the input alone"
        )


def with_controls(plan: Plan) -> Plan:
    """With the models that a user would deploy instead: dense ones of fewer blocks and of a lower input resolution."""
    model = load_recipe(plan.recipe).model
    dense = [row.model for row in plan.rows.values() if not row.policy and not row.peer]
    added = {}
    if not any(changes.get("depth", model.depth) < model.depth for changes in dense):
        depth = max(1, model.depth // 2)
        added[f"depth-{depth}"] = PlanRow(model={"depth": depth})
    if not any(changes.get("height", model.height) < model.height for changes in dense):
        step = LOWER_TO * model.patch
        height, width = (max(step, side * 3 // 4 // step * step) for side in (model.height, model.width))
        added[f"input-{height}x{width}"] = PlanRow(model={"height": height, "width": width})
    return plan.model_copy(update={"rows": plan.rows | added})


def row_recipe(plan: Plan, row_name: str, seed: int) -> Recipe:
    """The recipe of one row: the plan's, reduced to the row's phases, which begin with the dense checkpoint; those of a peer
    with its own weights.

    Raises:
        InputError: the recipe has no such phase, or refuses the row's model.
    """
    row, recipe = plan.rows[row_name], load_recipe(plan.recipe)
    dense = str(find_weights(plan.dense))
    names = plan.phases.policy if row.policy else (row.peer and row.peer.phases) or plan.phases.dense
    phases = {}
    for index, name in enumerate(names):
        if name not in recipe.phases:
            known = list(recipe.phases)
            raise InputError(
                f"recipe {plan.recipe} has no phase {name!r}; it has {', '.join(known)}{nearest(name, known)}"
            )
        phase = recipe.phases[name]
        # options are the row's own: the recipe's may be of another policy
        changes: dict[str, Any] = {"start": None if index or row.peer else dense, "options": {}, "policy": None}
        if phase.distill or phase.distill_tokens:
            changes["teacher"] = dense
        if plan.frames and index == 0:
            changes["frames"] = plan.frames
        phases[name] = phase.model_copy(update=changes, deep=True)
    model = parse(ModelSpec, recipe.model.model_dump(exclude_unset=True) | row.model, f"row {row_name}: model")
    policy = row.policy or PolicySpec()
    changed = recipe.model_copy(
        update={
            "name": f"{plan.name}-{row_name}",
            "seed": seed,
            "model": model,
            "policy": policy,
            "phases": phases,
            "weights": None,
            "head": recipe.head if row.peer else None,  # a ViT's is that of the plan's dense
            "validation": None,
        },
        deep=True,
    )
    return for_a_peer(changed) if row.peer else changed


def budget(recipe: Recipe) -> int:
    """Frames that the row sees in training."""
    return sum(phase.frames for phase in recipe.phases.values())
