"""Pydantic models of every YAML a user writes: target, data set, recipe.

Unknown keys are refused with the nearest known one; a path that a user gives wins over what the package ships.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from edgeprune.errors import InputError, nearest

ROOT = Path(__file__).resolve().parent
Spec = TypeVar("Spec", bound="Strict")


class Strict(BaseModel):
    """Refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


# ------------------------------------------------------------------------------------------------ target


class Power(Strict):
    """Where the device's energy is read: a meter of `energy.METERS`, its rails, and which of them make the total."""

    meter: str = "auto"
    rails: list[str] | None = None
    total: list[str] | None = None


class Parity(Strict):
    """Least share of equal labels between PyTorch and the engine, where the reference's margin exceeds 1e-3."""

    fp32: float = 0.999
    int8: float = 0.99


class BucketFamily(Strict):
    """How many buckets, and the multiple that their token counts are rounded up to."""

    count: int = Field(5, ge=1)
    multiple: int = Field(64, ge=1)


class Target(Strict):
    """A device: `targets/<name>.yaml`."""

    name: str
    summary: str
    engine: str
    precisions: list[Literal["fp32", "int8"]]
    threads: int = Field(2, ge=1)
    # how graphs are written: QGemm of ONNX Runtime takes the bias as INT32; TensorRT refuses to dequantize INT32 and wants
    # a float Add, and casts to UINT8 from float alone
    dialect: Literal["onnxruntime", "tensorrt"]
    buckets: BucketFamily = BucketFamily()
    parity: Parity = Parity()
    accuracy_limit_points: float = 0.5
    lint: list[str]
    compiled_on_device: bool = False
    power: Power = Power()


# ------------------------------------------------------------------------------------------------ data set


class FolderSplit(Strict):
    """Images and labels of equal stem in two folders, relative to the data set's `path`.

    `include` and `exclude` are globs over the file stem (`"0016E5*"`), for leaving a drive out.
    """

    images: Path
    labels: Path
    include: list[str] = ["*"]
    exclude: list[str] = []


class StreetSplit(Strict):
    """`frames` scenes of the synthetic street, seeds counted from `seed`."""

    seed: int
    frames: int = Field(ge=1)
    height: int = Field(384, ge=32)
    width: int = Field(512, ge=32)


def _kind_of_split(content: Any) -> str:
    """Which split a mapping means to be, so that a typo in one is not checked against the other."""
    if isinstance(content, BaseModel):
        return type(content).__name__
    return "StreetSplit" if isinstance(content, dict) and {"seed", "frames"} & content.keys() else "FolderSplit"


Split = Annotated[
    Annotated[FolderSplit, Tag("FolderSplit")] | Annotated[StreetSplit, Tag("StreetSplit")],
    Discriminator(_kind_of_split),
]
Byte = Annotated[int, Field(ge=0, le=255)]


class DataSet(Strict):
    """A data set: where its images and labels are, what the label ids mean.

    `path` is relative to the YAML file. A data set without `path` is the synthetic street.
    """

    name: str
    path: Path | None = None
    train: Split
    val: Split
    test: Split | None = None
    names: list[str] = Field(min_length=2)
    palette: list[tuple[Byte, Byte, Byte]]
    ignore_index: Byte = 255
    # the size at which predictions are compared with labels; None: each label's own size
    score_height: int | None = Field(None, ge=1)
    score_width: int | None = Field(None, ge=1)


# ------------------------------------------------------------------------------------------------ recipe


class ModelSpec(Strict):
    """A plain ViT for segmentation; see `model/segmenter.py`."""

    size: Literal["tiny", "small", "base"] = "tiny"
    depth: int = Field(12, ge=1)
    stem: Literal["conv", "patch"] = "conv"
    height: int = Field(384, ge=32)
    width: int = Field(512, ge=32)
    classes: int = Field(11, ge=2)
    layer_scale: float | None = None


class PolicySpec(Strict):
    """A token policy of `policies.POLICIES` and its settings (a mapping that the policy's own spec checks)."""

    name: str = "dense"
    options: dict[str, Any] = {}


class AugmentSpec(Strict):
    """Random scale, crop, flip and colour, by kornia."""

    scale: tuple[float, float] = (0.6, 2.0)
    flip: float = 0.5
    colour: float = 0.5
    blur: float = 0.1
    noise: float = 0.1
    grey: float = 0.05


class Mix(Strict):
    """One source of training samples. `data`: a name or a path of a data-set YAML; `share`: of each batch."""

    data: str
    split: Literal["train", "val", "test"] = "train"
    share: float = Field(1.0, gt=0)
    include: list[str] = ["*"]
    exclude: list[str] = []


class Phase(Strict):
    """One phase of training. `kind` decides what is switched on: `dense` runs every token; `sparse` adds the policy;
    `qat` adds fake-quantization to the policy; `dense-qat` quantizes the dense model."""

    kind: Literal["dense", "sparse", "qat", "dense-qat"]
    data: list[Mix]
    frames: int = Field(ge=1, description="samples seen in the whole phase")
    start: str | None = Field(None, description="an earlier phase, or a checkpoint; default: the phase before")
    batch: int = Field(8, ge=1)
    crop_height: int | None = None
    crop_width: int | None = None
    lr: float = 1e-3
    layer_decay: float = Field(1.0, gt=0, le=1)
    weight_decay: float = 0.05
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the phase")
    clip: float = 1.0
    drop_path: float = Field(0.0, ge=0, lt=1)
    label_smoothing: float = 0.0
    class_balance: float = Field(0.0, ge=0, le=1, description="exponent of the inverse class frequency")
    distill: float = Field(0.0, ge=0, description="weight of the distance to the teacher's class probabilities")
    teacher: str | None = Field(None, description="an earlier phase, or a checkpoint; needed with `distill`")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights that the phase hands on")
    augment: AugmentSpec = AugmentSpec()


class Validation(Strict):
    """What is scored during training; never what is reported."""

    data: str
    split: Literal["train", "val", "test"] = "val"
    include: list[str] = ["*"]
    exclude: list[str] = []
    frames: int = Field(48, ge=1)
    times: int = Field(4, ge=0, description="how often within a phase")


class Calibration(Strict):
    """The frames that thresholds, occupancy and PTQ ranges are measured on."""

    data: str
    split: Literal["train", "val", "test"] = "train"
    include: list[str] = ["*"]
    exclude: list[str] = []
    frames: int = Field(64, ge=8)
    percentile: float = Field(100.0, gt=50, le=100)


class Recipe(Strict):
    """`edgeprune train recipe.yaml`: a model, a policy, and phases in order."""

    name: str
    summary: str = ""
    seed: int = 0
    model: ModelSpec = ModelSpec()
    policy: PolicySpec = PolicySpec()
    weights: str | None = Field(
        None,
        description="the first phase's start: a checkpoint, or timm-format weights (a file or hub:OWNER/NAME)",
    )
    phases: dict[str, Phase] = Field(min_length=1)
    validation: Validation | None = None
    calibration: Calibration | None = None
    device: str = "auto"
    threads: int | None = None
    bf16: bool | Literal["auto"] = "auto"
    workers: int = Field(0, ge=0)
    checkpoint_seconds: float = 120.0


# ------------------------------------------------------------------------------------------------ reading


def _known_keys(spec: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Field names of the model that `location` (pydantic's error path without its last part) leads to."""
    models = [spec]
    for part in location:
        tagged = [model for model in models if model.__name__ == part]
        field = models[0].model_fields.get(part) if isinstance(part, str) else None
        if tagged:
            models = tagged
        elif field is not None:
            models = _models_in(field.annotation) or models
        # else an index or a mapping's key
    return list(models[0].model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def parse(spec: type[Spec], content: Any, where: str) -> Spec:
    """Checks `content` against `spec`.

    Raises:
        InputError: the first fault, with its place and, for an unknown key, the nearest known one.
    """
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected a mapping of keys to values, found {type(content).__name__}")
    try:
        return spec.model_validate(content)
    except ValidationError as error:
        # an unknown key explains a missing one (a typo gives both), so it is named first
        faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        fault = faults[0]
        place = ".".join(str(part) for part in fault["loc"] if part not in ("FolderSplit", "StreetSplit"))
        if fault["type"] == "extra_forbidden":
            key = str(fault["loc"][-1])
            known = _known_keys(spec, fault["loc"][:-1])
            raise InputError(
                f"{where}: unknown key {place!r}; known: {', '.join(known)}{nearest(key, known)}"
            ) from None
        found = "" if fault["type"] == "missing" else f", found {fault['input']!r}"
        problem = "expected a mapping of keys to values" if fault["type"] == "model_type" else fault["msg"].lower()
        raise InputError(f"{where}: {place}: {problem}{found}") from None


def read_yaml(path: Path, what: str) -> Any:
    """The content of a YAML file.

    Raises:
        InputError: the file is missing, unreadable or no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{what} {path} is not there; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{what} {path} can't be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise InputError(f"{what} {path} is not valid YAML{line}: {problem}") from None


def shipped(folder: str) -> Path:
    """A folder of package data: beside the package in a checkout, inside it in an installed wheel."""
    inside = ROOT / folder
    return inside if inside.is_dir() else ROOT.parent / folder


def find(name: str | Path, folder: Path, what: str) -> Path:
    """`name` as a path where such a file exists, else `<folder>/<name>.yaml`.

    Raises:
        InputError: neither exists; the message lists what the folder has.
    """
    name = str(name)
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if name not in known:
        raise InputError(f"unknown {what} {name!r}; choices: {', '.join(known)} or a YAML file{nearest(name, known)}")
    return folder / f"{name}.yaml"


def load_target(name: str) -> Target:
    """A target by name (`targets/`) or path."""
    path = find(name, shipped("targets"), "target")
    return parse(Target, read_yaml(path, "target"), str(path))


def load_data_set(name: str) -> DataSet:
    """A data set by name (`edgeprune/data/sets/`) or path; its `path` comes back absolute."""
    path = find(name, ROOT / "data" / "sets", "data set")
    data_set = parse(DataSet, read_yaml(path, "data set"), str(path))
    if data_set.path is not None:
        data_set.path = (path.resolve().parent / data_set.path).resolve()
    elif any(isinstance(split, FolderSplit) for split in (data_set.train, data_set.val, data_set.test)):
        raise InputError(f"{path}: image and label folders need `path`, the folder they are in")
    if len(data_set.palette) != len(data_set.names):
        raise InputError(
            f"{path}: palette has {len(data_set.palette)} colours for {len(data_set.names)} names; give one each"
        )
    if data_set.ignore_index < len(data_set.names):
        raise InputError(
            f"{path}: ignore_index {data_set.ignore_index} is the id of class "
            f"{data_set.names[data_set.ignore_index]!r}; use {len(data_set.names)} to 255"
        )
    if (data_set.score_height is None) != (data_set.score_width is None):
        raise InputError(f"{path}: score_height and score_width go together; give both or neither")
    return data_set


def load_recipe(name: str | Path, overrides: list[str] | None = None) -> Recipe:
    """A recipe by name (`edgeprune/train/recipes/`) or path, with `key.key=value` overrides applied before it is checked."""
    path = find(name, ROOT / "train" / "recipes", "recipe")
    content = read_yaml(path, "recipe")
    for override in overrides or []:
        keys, equals, value = override.partition("=")
        if not equals:
            raise InputError(f"--set {override!r}: expected KEY.KEY=VALUE, for example --set phases.dense.frames=64")
        node = content
        *parents, last = keys.split(".")
        for key in parents:
            node = node.setdefault(key, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise InputError(f"--set {override!r}: {keys!r} does not lead to a mapping")
        try:
            node[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"--set {override!r}: {value!r} is not a YAML value") from None
    return parse(Recipe, content, str(path))
