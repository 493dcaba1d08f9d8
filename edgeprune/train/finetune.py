"""From a data set and pretrained weights to a recipe: what `edgeprune train --data DATA --weights WEIGHTS` runs.

The recipe `finetune` is taken, or one that was named, and what follows from the data and the weights is put in. Its every key
can be set still, and as it ran it is in the run's folder.
"""

import re
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError
from edgeprune.data import Samples, open_split, spread
from edgeprune.data.datasets import load_data_set
from edgeprune.train.recipe import Mix, Recipe
from edgeprune.train.recipe_file import load_recipe

RECIPE = "finetune"
PATCHES = 768  # of the input, about: 24x32
PATCH = 16
LARGER = 1.05  # how far above its own size a frame is enlarged
LOOKED_AT = 5
CROPS, CROPS_SIDE = "crops", "phases.crops.crop_"  # the phase that sees windows, and its keys that say their size


def recipe_for(
    data: str,
    weights: str | None = None,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> Recipe:
    """A recipe for a data set.

    Args:
        data: a data set, by name or path.
        weights: what the first phase begins with, as `weights:` in a recipe; relative to the working folder.
        recipe: by name or path; its own input size stays. None: `finetune`, at a size that suits the frames.
        overrides: `KEY.KEY=VALUE`; they win over what is put in.

    Raises:
        InputError: the data set or the weights can't be read.
    """
    data_set = load_data_set(data)
    samples = open_split(data_set, "train")  # before weights are fetched
    of_weights = {} if weights is None else {"weights": weights, **_of_weights(weights)}
    given = {"model.classes": len(data_set.names), **of_weights}
    if recipe is None:
        patch = of_weights.get("model.patch", PATCH)
        (height, width), name = input_size(samples, patch), f"{RECIPE}-{_as_name(data_set.name)}"
        given = {"name": name, "model.height": height, "model.width": width, **given}
    found = load_recipe(recipe or RECIPE, [*(f"{key}={value}" for key, value in given.items()), *overrides])
    if recipe is None and (crops := found.phases.get(CROPS)) and not any(CROPS_SIDE in each for each in overrides):
        crops.crop_height, crops.crop_width = _crop(found.model.height, found.model.width, found.model.patch)
    said = {each.partition("=")[0] for each in overrides}
    for key, phase in found.phases.items():
        if f"phases.{key}.data" not in said:
            phase.data = [Mix(data=data)]
    for section, reader in (("validation", found.validation), ("calibration", found.calibration)):
        if reader is not None and section not in said:
            for key, value in {"data": data, "include": ["*"], "exclude": list[str]()}.items():
                if f"{section}.{key}" not in said:
                    setattr(reader, key, value)
    return found


def input_size(samples: Samples, patch: int = PATCH) -> tuple[int, int]:
    """Height and width of the input for frames: about `PATCHES` patches in the frames' own shape, and not
    much more pixels than they have."""
    sizes = sorted(samples[index].image_HW3.shape[:2] for index in spread(len(samples), LOOKED_AT))
    height, width = sizes[len(sizes) // 2]
    scale = min(LARGER, patch * sqrt(PATCHES / (height * width)))
    return _even(height * scale, patch), _even(width * scale, patch)


def _even(side: float, patch: int) -> int:
    """A multiple of a superpatch of 2x2 patches."""
    return 2 * patch * max(2, round(side / (2 * patch)))


def _crop(height: int, width: int, patch: int) -> tuple[int, int]:
    """Height and width of windows of three quarters of each side."""
    return _even(0.75 * height, patch), _even(0.75 * width, patch)


def _of_weights(weights: str) -> dict[str, Any]:
    """Size, depth and stem of the network that the weights are of: edgeprune's own by their card, a ViT's by its tensors."""
    # torch takes seconds: what was given has been read
    from edgeprune.model.checkpoint import is_checkpoint
    from edgeprune.model.hf_names import in_timms_names
    from edgeprune.model.segmenter import WIDTHS
    from edgeprune.model.vit_names import FIRST, unwrap
    from edgeprune.model.weight_files import find_weights, read_safetensors
    from edgeprune.quantize.loading import read_card

    path = find_weights(weights)
    if is_checkpoint(path):
        spec = read_card(path).model
        keys = ("size", "depth", "stem", "patch", "extra_tokens", "convolutions", "layer_scale")
        return {f"model.{key}": value for key in keys if (value := getattr(spec, key)) is not None}
    tensors, _ = unwrap(in_timms_names(read_safetensors(path)))
    depth = len({key.split(".")[1] for key in tensors if key.startswith("blocks.")})
    width = len(tensors[FIRST])
    sizes = {each: name for name, each in WIDTHS.items()}
    if width not in sizes:
        raise InputError(
            f"weights {weights} are {width} wide; expected {', '.join(map(str, sizes))} (64 for each head)"
        )
    return {"model.depth": depth, "model.size": sizes[width]}


def _as_name(name: str) -> str:
    """A data set's name as a file's."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "data"


def train(
    data: str | Path | None = None,
    weights: str | Path | None = None,
    *,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    phases: Sequence[str] = (),
    overrides: Sequence[str] = (),
    cache: str | Path | None = None,
) -> list[Path]:
    """Trains; `edgeprune.train` is this. As `edgeprune train`, which the arguments are those of.

    Args:
        data: a data set, by name or path; it replaces the recipe's. None: the recipe's own.
        weights: what the first phase begins with.
        recipe: by name or path; None: `finetune`, which needs `data`.
        out: the run's folder; None: `out/train/NAME`.
        phases: these alone.
        overrides: `KEY.KEY=VALUE` of the recipe.
        cache: where rendered street scenes are kept.

    Returns:
        the checkpoint of each phase.

    Raises:
        InputError, RunError: as one line.
    """
    found = chosen_recipe(recipe, _text(data), _text(weights), overrides)
    # torch takes seconds: what was given has been read
    from edgeprune.train.phases import train as run_phases

    folder = Path(out) if out is not None else default_folder(found)
    return run_phases(found, folder, None if cache is None else Path(cache), list(phases) or None)


def _text(given: str | Path | None) -> str | None:
    return None if given is None else str(given)


def chosen_recipe(recipe: str | Path | None, data: str | None, weights: str | None, overrides: Sequence[str]) -> Recipe:
    """The recipe that was named, that the data stands for, or both put together.

    Raises:
        InputError: neither was given.
    """
    if data:
        return recipe_for(data, weights, recipe, overrides)
    if recipe is None:
        raise InputError(
            "train needs a recipe or data: type `edgeprune train RECIPE`, or `edgeprune train --data DATA`"
        )
    return load_recipe(recipe, [*([f"weights={weights}"] if weights else []), *overrides])


def default_folder(recipe: Recipe) -> Path:
    """Where a run goes that names no folder."""
    return Path("out/train") / recipe.name
