"""A recipe: a model, a token policy, and phases of training in order."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from edgeprune.base.reading import Name, Strict
from edgeprune.data.held_out import HeldOut
from edgeprune.data.selection import CalibrationFrames, FrameSelection
from edgeprune.model.spec import ModelSpec, PolicySpec

Scale = Annotated[float, Field(ge=0.1, le=10)]


class AugmentSpec(Strict):
    """Random scale, crop, flip and colour, by kornia."""

    scale: tuple[Scale, Scale] = Field(
        (0.6, 2.0),
        description="how much larger things appear, least and most: the window of the frame that is shown shrinks with it, and "
        "never exceeds the frame",
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability that left and right are swapped")
    colour: float = Field(
        0.5,
        ge=0,
        le=1,
        description="probability of another brightness, contrast and saturation; half of it: shifts, gamma",
    )
    blur: float = Field(0.1, ge=0, le=1, description="probability of a Gaussian blur")
    noise: float = Field(0.1, ge=0, le=1, description="probability of Gaussian noise of 3% of the range")
    grey: float = Field(0.05, ge=0, le=1, description="probability that colours are left out")

    @field_validator("scale")
    @classmethod
    def _rises(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError("the smallest comes first, then the largest")
        return scale


class Mix(FrameSelection):
    """One source of training samples."""

    share: float = Field(1.0, gt=0, le=1e6, description="of each batch, beside the other sources' shares")
    images: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="so many frames and no others, evenly spread over those that the globs and `hold_out` leave; null: all",
    )
    before: int | None = Field(
        None,
        ge=1,
        le=10**6,
        description="where a phase has `remember`: the frame before is that so many earlier, in the order of names or of a "
        "rendered clip; null: it is made of the frame itself",
    )


class OhemSpec(Strict):
    """Online hard example mining: of each image the cross-entropy sees the hard pixels alone."""

    threshold: float = Field(
        0.7, gt=0, le=1, description="a pixel is hard where its class has less probability than this"
    )
    least: float = Field(
        0.1,
        gt=0,
        le=1,
        description="share of an image's labelled pixels that are hard whatever their probability, the hardest first; "
        "mmsegmentation's `min_kept` counts over the images of one GPU together",
    )


class AuxiliarySpec(Strict):
    """Auxiliary heads, which train the blocks below them and are thrown away at the end of the phase."""

    blocks: list[Annotated[int, Field(ge=1, le=64)]] = Field(
        min_length=1,
        description="how many blocks precede each head, rising: `[8]` is one head on what the first eight make",
    )
    weight: float = Field(0.4, gt=0, le=10, description="of each head's cross-entropy")


SUFFIX = ".safetensors"  # by which a checkpoint is told from a phase
SPARSE, QUANTIZED = ("policy", "sparse", "qat"), ("qat", "dense-qat")  # kinds of phases


class Phase(Strict):
    """One phase of training. `kind` decides what is switched on: `dense` runs every token; `policy` trains what of the policy
    looks at the image, and nothing else; `sparse` adds the policy; `qat` adds fake-quantization to the policy; `dense-qat`
    quantizes the dense model."""

    kind: Literal["dense", "policy", "sparse", "qat", "dense-qat"] = Field(
        description="dense: every token; policy: the CNN that merges cells, by labels, while no block runs; sparse: the policy "
        "too; qat: the policy and fake-quantization; dense-qat: that alone"
    )
    data: list[Mix] = Field(min_length=1, description="where samples are from; data sets of equal classes")
    frames: int = Field(ge=0, le=10**9, description="samples seen in the whole phase; 0: the weights stay as they are")
    start: str | None = Field(
        None, description="an earlier phase, or a checkpoint (a file, or zoo:NAME/FILE); default: the phase before"
    )
    batch: int = Field(8, ge=1, le=4096, description="samples of a step, of all processes together")
    accumulate: int = Field(
        1, ge=1, le=4096, description="parts that a batch passes the network in, one after the other, to save memory"
    )
    crop_height: int | None = Field(None, description="of the windows that a step sees, a multiple of the patch")
    crop_width: int | None = Field(None, description="goes with `crop_height`")
    lr: float = Field(1e-3, gt=0, description="AdamW's peak rate; it warms up, then follows a cosine down to 1%")
    policy: PolicySpec | None = Field(None, description="of this phase, where it is not the recipe's")
    options: dict[str, Any] = Field({}, description="options of the policy that differ from the recipe's in this phase")
    freeze: int = Field(
        0,
        ge=0,
        le=64,
        description="so many of the first blocks keep their weights, and so does the embedding before them (patches, "
        "positions, extra tokens; not what of a stem only the head sees); a policy's gates learn wherever they are; 0: all "
        "learns",
    )
    policy_lr: float = Field(1.0, gt=0, description="the policy's own parameters learn at so many times `lr`")
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="each block learns at so many times the rate of the next; 0.65 to 0.8 for pretrained",
    )
    weight_decay: float = Field(0.05, ge=0, description="AdamW's; not of norms, biases, scales and positions")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the phase")
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null: as it comes")
    drop_path: float = Field(
        0.0, ge=0, lt=1, description="probability that a branch of the last block is skipped; less before"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of a label that is spread over all classes")
    class_balance: float = Field(0.0, ge=0, le=1, description="exponent of the inverse class frequency")
    jaccard: float = Field(
        0.0, ge=0, description="weight of 1 - soft IoU, which counts classes where pixels count else"
    )
    dice: float = Field(0.0, ge=0, description="weight of 1 - soft Dice, which counts classes as `jaccard` does")
    ohem: OhemSpec | None = Field(None, description="see below; null: the cross-entropy sees every labelled pixel")
    auxiliary: AuxiliarySpec | None = Field(None, description="see below; null: the main head alone")
    distill: float = Field(
        0.0,
        ge=0,
        description="weight of the distance to the teacher's class probabilities, or of things to its answers, query by query; "
        "it needs the same classes",
    )
    distill_tokens: float = Field(
        0.0,
        ge=0,
        description="weight of the distance to the teacher's final tokens; with `distill: 0` all that a teacher of other "
        "classes can give",
    )
    teacher: str | list[str] | None = Field(
        None,
        description="an earlier phase, or a checkpoint (a file, or zoo:NAME/FILE), run on every token; needed to distill. A "
        "list: the mean of their class probabilities, and the tokens of the first that has them in the model's width",
    )
    remember: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the steps whose frames come after others: what changed is computed with every block, the rest is "
        "carried, as `build --memory` does",
    )
    guided: int = Field(
        0,
        ge=0,
        le=16,
        description="of things: so many more queries for each, told which it is, learn beside those that look for them; for a "
        "few hundred photos 4",
    )
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights that the phase hands on")
    augment: AugmentSpec = Field(AugmentSpec(), description="see below")

    @field_validator("teacher", mode="before")
    @classmethod
    def _one_or_several(cls, teacher: Any) -> Any:
        """A list of one is that one."""
        if teacher is None or isinstance(teacher, str):
            return teacher
        if not isinstance(teacher, list) or not teacher or not all(isinstance(each, str) for each in teacher):
            raise ValueError("expected an earlier phase or a checkpoint, or a list of them")
        if len(set(teacher)) < len(teacher):
            raise ValueError("names a teacher twice")
        return teacher if len(teacher) > 1 else teacher[0]

    @property
    def teachers(self) -> tuple[str, ...]:
        """What `teacher` names: none, one, or several."""
        if self.teacher is None:
            return ()
        return (self.teacher,) if isinstance(self.teacher, str) else tuple(self.teacher)

    @property
    def steps(self) -> int:
        """Whole batches; at least one where there are frames at all."""
        return max(min(1, self.frames), self.frames // self.batch)

    @property
    def crop(self) -> tuple[int, int] | None:
        """Height and width that a step sees; None: the model's own."""
        return (self.crop_height, self.crop_width) if self.crop_height and self.crop_width else None

    @property
    def distills(self) -> bool:
        """Whether the phase learns from a teacher."""
        return bool(self.distill or self.distill_tokens)


class Validation(FrameSelection):
    """What is scored during training; never what is reported. What is chosen by these scores is chosen on frames that are in
    `train` and are not trained on: `hold_out`, or globs that the phases exclude."""

    split: Literal["train", "val", "test"] = Field("val", description="of the data set")
    hold_out: float | None = Field(
        None,
        gt=0,
        le=0.5,
        description="share of the split train that is scored, in a few stretches, and not trained on",
    )
    frames: int = Field(48, ge=1, le=10**6, description="evenly spread over the split")
    times: int = Field(4, ge=0, le=10**4, description="how often within a phase")
    keep: Literal["best", "last"] = Field("last", description="the weights that a phase hands on")
    patience: int | None = Field(
        None,
        ge=1,
        description="a phase ends after so many validations in a row that are not its best; null: it does not",
    )

    @property
    def chooses(self) -> bool:
        """Whether anything depends on the scores."""
        return self.keep == "best" or self.patience is not None

    @property
    def held_out(self) -> HeldOut | None:
        """What of the training split is scored and not trained on."""
        return None if self.hold_out is None else HeldOut(self, self.hold_out)


class Recipe(Strict):
    """`edgeprune train recipe.yaml`: a model, a policy, and phases in order.

    Paths in it (`data`, `weights`, `start`, `teacher`) are relative to the recipe's file; those of `--set` to the working
    folder.
    """

    name: Name = Field(description="of the model, its checkpoints' and bundles' too")
    extends: str | None = Field(
        None, description="a recipe of edgeprune, whose keys this one takes over where it names none"
    )
    summary: str = Field("", description="a sentence for the model's card")
    seed: int = Field(
        0, ge=0, lt=2**63, description="of everything random: equal seeds, data and machine give equal weights"
    )
    model: ModelSpec = Field(ModelSpec(), description="see below")
    policy: PolicySpec = Field(PolicySpec(), description="see below")
    weights: str | None = Field(
        None,
        description="the first phase's start: a checkpoint, or a ViT's weights (a file, a folder of shards, hub:OWNER/NAME)",
    )
    head: str | None = Field(
        None,
        description="a checkpoint of the task, of a network of any size, with whose head the first phase begins: a file, or "
        "zoo:NAME/FILE",
    )
    phases: dict[Name, Phase] = Field(min_length=1, description="by name, in the order in which they run; see below")
    validation: Validation | None = Field(None, description="see below; null: nothing is scored")
    calibration: CalibrationFrames | None = Field(None, description="see below; a quantization-aware phase needs it")
    device: str = Field("auto", description="as torch names it; auto: a GPU where there is one")
    threads: int | None = Field(None, ge=1, le=1024, description="of torch on a CPU; null: as many as it takes")
    bf16: bool | Literal["auto"] = Field("auto", description="forward passes in bfloat16; auto: where that pays")
    workers: int = Field(0, ge=0, le=256, description="processes that read and render samples; 0: the training's own")
    tensorboard: bool = Field(
        False,
        description="history and sample pictures as events in `tensorboard/` of the run's folder too; needs "
        "`pip install 'edgeprune[tensorboard]'`",
    )
    checkpoint_seconds: float = Field(120.0, ge=0, description="between two states that a stopped phase goes on from")

    @property
    def held_out(self) -> HeldOut | None:
        """What of the training data no phase trains on."""
        return None if self.validation is None else self.validation.held_out

    def start_of(self, name: str) -> str | None:
        """What a phase starts from: an earlier phase or a checkpoint; None where it is `weights`, or nothing."""
        names = list(self.phases)
        before = names[names.index(name) - 1] if names.index(name) else None
        return self.phases[name].start or before

    def policy_of(self, phase: Phase) -> PolicySpec:
        """The policy of the model that the phase trains; a dense phase has none."""
        if phase.kind not in SPARSE:
            return PolicySpec()
        policy = phase.policy or self.policy
        return policy.model_copy(update={"options": policy.options | phase.options})
