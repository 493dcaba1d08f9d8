"""Models, frames and data sets small enough for a test: 64x96 pixels, 4x6 tokens, few blocks."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from nncf.torch.quantization import reference
from PIL import Image
from torch import Tensor
from torch._export import utils as export_utils
from torch.onnx._internal._lazy_import import onnxscript_apis
from torch.onnx._internal.exporter import _schemas

from edgeprune import street as synthetic
from edgeprune.base.reading import ROOT
from edgeprune.data.datasets import load_data_set
from edgeprune.model.blocks import Block
from edgeprune.model.checkpoint import Card
from edgeprune.model.policy import Shape, TokenPolicy, View
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.pruning.methods import make_policy
from edgeprune.quantize.loading import make_model
from edgeprune.quantize.ranges import apply_ranges, measure_ranges
from edgeprune.train.recipe import Recipe

torch.set_num_threads(1)  # as large a machine as these models need
# the exporter reads its 500 operators, their signatures and PyTorch's own operators anew for every graph: half of the time
# that one as small as these takes
onnxscript_apis.get_torchlib_ops = cache(onnxscript_apis.get_torchlib_ops)
_schemas.op_signature_from_function = cache(_schemas.op_signature_from_function)
export_utils._materialize_cpp_cia_ops = cache(export_utils._materialize_cpp_cia_ops)
if "TORCH_COMPILE_DISABLE" in os.environ:
    # NNCF asks for it all the same, and that imports the compiler, for seconds in every process, before it declines
    for wrapper in (reference.torch_forward, reference.torch_backward):
        wrapper._compiled_func = wrapper._func

HEIGHT, WIDTH = 64, 96
render, rendered = synthetic.scene, cache(synthetic.scene)


def small_scenes_once(
    seed: int, height: int = 384, width: int = 512, population: str = "street"
) -> tuple[np.ndarray, np.ndarray]:
    """A scene of the street; one as small as these is rendered once in a process: that is half of a training's time here."""
    if (height, width) != (HEIGHT, WIDTH):
        return render(seed, height, width, population)
    image_HW3, label_HW = rendered(seed, height, width, population)
    return image_HW3.copy(), label_HW.copy()


synthetic.scene = small_scenes_once
GRID = (HEIGHT // 16, WIDTH // 16)
N = GRID[0] * GRID[1]
STREET = load_data_set("street")
VIEW = View(torch.zeros(1, 3, HEIGHT, WIDTH), GRID)  # of a policy that looks at tokens alone


def scene(seed: int, height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """image_HW3 and label_HW of a scene of the synthetic street."""
    return synthetic.scene(seed, height, width)


def frames(count: int, first: int = 100) -> np.ndarray:
    """Frames (F, H, W, 3) of the synthetic street."""
    return np.stack([scene(first + index)[0] for index in range(count)])


def images(count: int, first: int = 100) -> Tensor:
    """The same as the training form takes them: (F, 3, H, W), levels 0-255 as float."""
    return torch.from_numpy(frames(count, first)).permute(0, 3, 1, 2).float()


# what a policy needs to be set on a model of four blocks; others need nothing
SMALL: dict[str, dict[str, Any]] = {
    "svit": {"first": 1},
    "random": {"first": 1},
    "uniform": {"first": 1},
    "evovit": {"first": 1},
    "cts-svit": {"first": 2},
    "ats": {"first": 1},
    "tome": {"keep": 0.4},
    "algm": {"pairs_after": 3},
    "dtop": {"context": 1},
    "step": {"context": 1},
    # one decision of each kind: superpatches, an exit before the third block, a gate before the last
    "combined": {"levels": [[2, 0.4]], "exits": {"exits": [2], "keep": [0.7], "context": 1}, "gates": {"first": 3}},
}


def card(
    policy: str = "svit",
    depth: int = 4,
    stem: str = "patch",
    quantized: bool = False,
    extra: int = 0,
    grid: tuple[int, int] = GRID,
    **options: Any,
) -> Card:
    """Of a ViT-Tiny whose decisions begin after the first block."""
    options = SMALL.get(policy, {}) | options
    height, width = 16 * grid[0], 16 * grid[1]
    return Card(
        name="tiny",
        model=ModelSpec.model_validate(
            {"depth": depth, "stem": stem, "height": height, "width": width, "extra_tokens": extra}
        ),
        policy=PolicySpec(name=policy, options=options),
        quantized=quantized,
        names=STREET.names,
        palette=STREET.palette,
    )


def policy(name: str) -> TokenPolicy:
    """A policy of a model of four blocks."""
    return make_policy(card(name).policy, Shape(192, 4, GRID, len(STREET.names)))


def model(described: Card | None = None, seed: int = 0) -> Segmenter:
    """A model in evaluation mode with weights so large that every block, gate and norm shows in the logits."""
    described = described or card()
    torch.manual_seed(seed)
    built = make_model(described)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if parameter.ndim > 1 and "_quantizer" not in name:
                fan_in = parameter[0].numel()
                parameter.normal_(std=(4.0 if name.startswith("policy.") else 1.0) * fan_in**-0.5)
        for name, buffer in built.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.3)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
        built.pos_embed.normal_(std=0.5)
    if described.quantized:
        apply_ranges(built, measure_ranges(built, lambda: built.eval()(images(8)) and None, 100))
    return built.eval()


def block(model: Segmenter, index: int) -> Block:
    found = model.blocks[index]
    assert isinstance(found, Block)
    return found


def write_street(folder: Path, frames: int = 8) -> str:
    """A data-set YAML of small street scenes; its path."""
    content = yaml.safe_load((ROOT / "data" / "sets" / "street.yaml").read_text())
    size = {"height": HEIGHT, "width": WIDTH}
    content |= {
        "train": {"seed": 0, "frames": frames, **size},
        "val": {"seed": 5000, "frames": 4, **size},
        "test": {"seed": 6000, "frames": 20, **size},
    }
    path = folder / "small-street.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def write_frames(folder: Path, count: int) -> str:
    """A data-set YAML of frames in files, black over grey, ten of each drive: `0-000` to `0-009`, `1-010`, ...; its path."""
    label_HW = np.zeros((HEIGHT, WIDTH), np.uint8)
    label_HW[HEIGHT // 2 :] = 1
    image_HW3 = np.repeat(100 * label_HW[..., None], 3, axis=2)
    for part, pixels in (("images", image_HW3), ("labels", label_HW)):
        (folder / part).mkdir()
        for index in range(count):
            Image.fromarray(pixels).save(folder / part / f"{index // 10}-{index:03d}.png")
    path = folder / "frames.yaml"
    content = yaml.safe_load(Path(write_street(folder)).read_text())
    content |= {"name": "frames", "path": ".", "train": {"images": "images", "labels": "labels"}}
    path.write_text(yaml.safe_dump(content))
    return str(path)


OF_A_RUN = {"curves.png", "environment.json", "metrics.csv", "recipe.yaml"}  # what `train` writes beside phases


def recipe(folder: Path, **changes: Any) -> Recipe:
    """dense -> sparse -> qat on the small street, a few steps each."""
    data = write_street(folder)
    phase = {"data": [{"data": data}], "frames": 8, "batch": 2, "lr": 1e-3, "ema": 0.9}
    content = {
        "name": "tiny",
        "model": {"depth": 3, "stem": "conv", "height": HEIGHT, "width": WIDTH},
        "policy": {"name": "svit", "options": {"first": 1, "keep": [0.6, 0.4]}},
        "phases": {
            "dense": phase | {"kind": "dense"},
            "sparse": phase | {"kind": "sparse", "distill": 1.0, "teacher": "dense"},
            "qat": phase | {"kind": "qat", "lr": 1e-4},
        },
        "calibration": {"data": data, "frames": 8},
        "device": "cpu",
        "threads": 1,
        "bf16": False,
    }
    return Recipe.model_validate(content | changes)


def changed(recipe: Recipe, phase: str, **changes: Any) -> Recipe:
    """A copy of the recipe with keys of one phase changed."""
    content = recipe.model_dump()
    content["phases"][phase] |= changes
    return Recipe.model_validate(content)
