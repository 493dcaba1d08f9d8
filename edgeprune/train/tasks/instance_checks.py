"""What a recipe may not ask of an instance model, and what its phases begin with."""

from importlib.util import find_spec

from edgeprune.base.errors import InputError
from edgeprune.model.card import ANY
from edgeprune.model.checkpoint import is_checkpoint
from edgeprune.model.weight_files import find_weights
from edgeprune.quantize.loading import read_card
from edgeprune.train.checkpoint_file import file_named, names_file
from edgeprune.train.recipe import Phase, Recipe

OF_PIXELS = ("class_balance", "label_smoothing", "jaccard", "dice", "ohem", "auxiliary")  # keys of a phase
METRIC = "faster_coco_eval"  # the package that the extra `coco` installs


def check_things(recipe: Recipe, name: str, phase: Phase) -> None:
    """Refuses keys that speak of the classes of pixels, teachers of other queries, and a validation without its metric.

    Raises:
        InputError: as one line.
    """
    for key in OF_PIXELS:
        if getattr(phase, key):
            nothing = "null" if Phase.model_fields[key].default is None else "0"
            raise InputError(
                f"phase {name}: {key} is for the classes of pixels, and a model of task {recipe.model.task} learns things; set "
                f"{key}: {nothing}, or take it out"
            )
    if phase.distill:
        _check_teacher(recipe, name, phase)
    if recipe.validation is not None and recipe.validation.times and find_spec(METRIC) is None:
        raise InputError(
            "validation: things are scored by COCO's metric, which is not installed; install it with: pip install "
            "'edgeprune[coco]', or set validation: null"
        )


def begins_anew(recipe: Recipe, phase: Phase) -> bool:
    """Whether the queries of a phase begin without having learnt: it begins with a ViT's weights, with none, or with a
    checkpoint of another task, and with nobody's head."""
    start = recipe.start_of(_name_of(recipe, phase))
    if start is not None:
        return names_file(start) and read_card(file_named(start)).model.task != recipe.model.task
    if recipe.head is not None:
        return False
    path = find_weights(recipe.weights) if recipe.weights is not None else None
    return path is None or not is_checkpoint(path) or read_card(path).model.task != recipe.model.task


def _check_teacher(recipe: Recipe, name: str, phase: Phase) -> None:
    """A pupil learns query by query: of one teacher, of the same task."""
    if len(phase.teachers) > 1:
        raise InputError(
            f"phase {name}: {len(phase.teachers)} teachers look for things at places of their own, and a pupil learns those of "
            "one; name one, or set distill: 0"
        )
    (teacher,) = phase.teachers
    if names_file(teacher):
        found, wanted = read_card(file_named(teacher), ANY).model.task, recipe.model.task
        if found != wanted:
            raise InputError(
                f"phase {name}: teacher {teacher} has task {found}, the model {wanted}, so it can teach by its tokens alone; "
                "set distill: 0 and distill_tokens: 1.0"
            )


def _name_of(recipe: Recipe, phase: Phase) -> str:
    return next(name for name, each in recipe.phases.items() if each is phase)
