"""The instance task: tokens -> things, each with a class, a score, a box and a mask, by queries (Cheng 2022, "Masked-attention
Mask Transformer", Mask2Former) that read the tokens and are multiplied with pixel embeddings at stride 4.

Without NMS: two queries learn not to say the same thing, for a label is given to one of them alone (`train/matching.py`).
Masked attention (section 3.2.1 there) helps the queries to find their things while they learn, and is annealed away (Kerssies
2025, "Your ViT is Secretly an Image Segmentation Model", mask annealing): the graph has plain attention alone.

Shapes: B batch, N tokens of the grid (Gh x Gw), D width, Q queries, C channels of a query, E of a pixel embedding, K classes, T
things that a graph gives, h w pixels at stride 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import lcm, log10, pi

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.model.blocks import gelu
from edgeprune.model.heads.head import Array
from edgeprune.model.heads.likeness import largest_difference
from edgeprune.model.heads.semantic import CHANNELS, Pyramid
from edgeprune.model.spec import ModelSpec
from edgeprune.runtime.tasks.instance import LEAST_SCORE
from edgeprune.runtime.tasks.semantic import NO_CLASS
from edgeprune.runtime.tasks.things import INSIDE

STRIDE = 4  # of the masks
LAYERS = 3
WIDTH, HEADS = 128, 2  # of the queries; a head has 64, which every engine fuses
MOST_THINGS = 100  # that a graph gives, as COCO's metric counts
LEVELS = 255.99  # times a probability, and cut, for rounding is a pass over all masks more; INSIDE is the first above one half
LEAST_WAVES, MOST_WAVES = 0.5, 16.0  # over the input, of the positions of tokens
KEPT_FROM = 0.3  # the score of things that a bundle's references keep; what is compared has more


@dataclass
class Answers:
    """What the head computes, before the first layer of the decoder and after each: the last is its answer, the others are
    learnt from too.

    Attributes:
        logits: (B, Q, K + 1) of each; the last class is "none".
        boxes: (B, Q, 4) of each: x and y of the centre, width and height, as shares of the input.
        masks: (B, Q, h, w) of each, logits.
    """

    logits: list[Tensor]
    boxes: list[Tensor]
    masks: list[Tensor]

    def of_frame(self, index: int) -> "Answers":
        """The last answer to one frame of the batch, as a batch of one."""
        one = slice(index, index + 1)
        return Answers([self.logits[-1][one]], [self.boxes[-1][one]], [self.masks[-1][one]])


class QueryHead(Pyramid):
    """Q learnt queries through LAYERS layers: each reads the tokens, then the other queries, then thinks for itself."""

    query_numbers: Tensor
    class_numbers: Tensor
    positions_NC: Tensor

    def __init__(self, width: int, spec: ModelSpec, skip_channels: Sequence[int]):
        if spec.height % STRIDE or spec.width % STRIDE:
            raise InputError(
                f"model input {spec.height}x{spec.width}: a mask has a pixel for {STRIDE} of the input each way, both must be "
                f"multiples of {STRIDE}, and of the patch: of {lcm(STRIDE, spec.patch)}"
            )
        super().__init__(width, spec, skip_channels)
        self.label_stride = STRIDE  # a label map is drawn of the masks
        at8, at4 = CHANNELS[spec.convolutions]
        self.classes, self.queries = spec.classes, spec.queries
        self.reduce = nn.Linear(width, WIDTH)
        self.coarse = nn.Conv2d(WIDTH, at8, 1)
        self._add_pyramid(spec, skip_channels)
        self.embed = nn.Conv2d(at4, at4, 1)
        self.query = nn.Parameter(torch.randn(self.queries, WIDTH))
        self.query_position = nn.Parameter(torch.randn(self.queries, WIDTH))
        self.layers = nn.ModuleList(QueryLayer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.classify = nn.Linear(WIDTH, spec.classes + 1)
        self.place = _perceptron(4)
        self.outline = _perceptron(at4)
        # of each pair of query and class, in the order of a flattened (Q, K), which no graph has to divide for
        numbers = torch.arange(self.queries * spec.classes)
        self.register_buffer("query_numbers", numbers // spec.classes, persistent=False)
        self.register_buffer("class_numbers", (numbers % spec.classes).int(), persistent=False)
        self.grid = spec.grid
        self.register_buffer("positions_NC", sine_positions(spec.grid, WIDTH), persistent=False)
        self.masked = (
            0.0  # the probability that a query's attention is masked in training; see `train/tasks/instance.py`
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("classes", "scores", "boxes", "masks")

    def initialise(self) -> None:
        """Linears as those of Mask2Former's decoder (Glorot 2010): with the small weights of a ViT's all queries would say the
        same for long."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and name != "reduce":
                nn.init.xavier_uniform_(module.weight)

    def forward(self, x_BND: Tensor, grid: tuple[int, int], skips: Sequence[Tensor]) -> Answers:
        # in a graph rows of two dimensions: a linear is then one product with its bias, and no shape changes before and after
        one = torch.compiler.is_exporting()
        memory_BNC = self.reduce(x_BND.squeeze(0) if one else x_BND)
        pixels_BEhw = self._pixels(memory_BNC, grid, skips)
        keys_BNC = memory_BNC + self._positions(grid, memory_BNC)
        queries_BQC = self.query if one else self.query.expand(x_BND.shape[0], -1, -1)
        answers = Answers([], [], [])
        for number in range(LAYERS + 1):
            # a graph has no use for what is learnt on the way, but for attention that is masked
            if self.training or number == LAYERS:
                self._answer(answers, queries_BQC, pixels_BEhw)
            if number < LAYERS:
                attended_BQN = self._attended(answers, grid)
                queries_BQC = self.layers[number](queries_BQC, self.query_position, keys_BNC, memory_BNC, attended_BQN)
        return answers

    def _positions(self, grid: tuple[int, int], like: Tensor) -> Tensor:
        """Where the tokens are, (N, C), in the type of `like`; a constant of a graph, whose grid is the model's own."""
        positions_NC = self.positions_NC if grid == self.grid else sine_positions(grid, WIDTH, like.device)
        return positions_NC.to(like.dtype)

    def _pixels(self, memory_BNC: Tensor, grid: tuple[int, int], skips: Sequence[Tensor]) -> Tensor:
        """The embedding of each pixel at stride 4, (B, E, h, w)."""
        x_BCHW = self.coarse(batched(memory_BNC).transpose(1, 2).unflatten(2, grid))
        pixels_BEhw: Tensor = self.embed(self._to_stride4(x_BCHW, grid, skips))
        return pixels_BEhw

    def _answer(self, answers: Answers, queries_BQC: Tensor, pixels_BEhw: Tensor) -> None:
        """Adds what the queries say as they are."""
        x_BQC = self.norm(queries_BQC)
        masks_BQP = batched(self.outline(x_BQC)) @ pixels_BEhw.flatten(2)
        answers.logits.append(batched(self.classify(x_BQC)))
        answers.boxes.append(batched(self.place(x_BQC)).float().sigmoid())  # bfloat16 has two digits for it
        answers.masks.append(masks_BQP.unflatten(2, pixels_BEhw.shape[-2:]))

    def _attended(self, answers: Answers, grid: tuple[int, int]) -> Tensor | None:
        """True for the tokens (B, Q, N) that a query may read: where its mask is, or everywhere if it is nowhere; a query whose
        attention is not masked, which is drawn anew for each layer, reads them all. None: so does every query."""
        if not self.training or self.masked == 0.0:
            return None
        with torch.no_grad():
            coarse_BQhw = F.interpolate(answers.masks[-1].float(), grid, mode="bilinear", align_corners=False)
            inside_BQN = coarse_BQhw.flatten(2) > 0
            plain_BQ = torch.rand(inside_BQN.shape[:2], device=inside_BQN.device) >= self.masked
            return inside_BQN | (plain_BQ | ~inside_BQN.any(dim=-1))[..., None]

    def with_early_exits(self, raw: Answers, frozen_BNK: Tensor, open_BN: Tensor, grid: tuple[int, int]) -> Answers:
        """The queries read the features that tokens left with; which class those would have had is no thing's."""
        return raw

    def decide(self, raw: Answers) -> tuple[Tensor, ...]:
        """`classes` (T) ids, `scores` (T), `boxes` (T, 4) left, top, right, bottom as shares of the input, `masks` (T, h, w) in
        LEVELS, best score first; T is the number of queries, at most MOST_THINGS.

        A thing is a query and a class; its score the class's probability times the mask's mean one inside, as Mask2Former's
        code scores (`instance_inference`).
        """
        masks_Qhw, of_class_QK = first(raw.masks[-1]).float(), first(raw.logits[-1]).float().softmax(-1)[:, :-1]
        score_QK = of_class_QK * mean_inside(masks_Qhw)[:, None]
        score_T, place_T = score_QK.flatten().topk(min(MOST_THINGS, score_QK.shape[0]))
        query_T, class_T = self.query_numbers.index_select(0, place_T), self.class_numbers.index_select(0, place_T)
        levels_Thw = (LEVELS * masks_Qhw.index_select(0, query_T).sigmoid()).to(torch.int32)
        return class_T, score_T, corners(first(raw.boxes[-1])).index_select(0, query_T), levels_Thw

    def decided_from(self, raw: Answers) -> tuple[Tensor, ...]:
        """The outputs themselves: which of them belong together is the task's to say (`runtime/tasks/instance.py`)."""
        return self.decide(raw)

    def sure(self, raw: Answers) -> None:
        return None

    def label_map(self, raw: Answers) -> Tensor:
        """Things of a score of at least LEAST_SCORE, the best over the others; NO_CLASS where there is none."""
        class_T, score_T, _, levels_Thw = self.decide(raw)
        label_hw = torch.full_like(levels_Thw[0], int(NO_CLASS), dtype=torch.uint8)
        for index in reversed(range(int((score_T >= LEAST_SCORE).sum()))):
            label_hw[levels_Thw[index] >= INSIDE] = class_T[index].to(torch.uint8)
        return label_hw

    def error(self, expected: Sequence[Array], got: Sequence[Array]) -> float:
        """Of things, whatever their order."""
        return largest_difference(expected, got)

    def reference(self, outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The things of each frame that may be compared, as many as the frame with most has, their masks inside or outside:
        the others' masks are noise, which no archive makes small."""
        most = max(1, int((outputs["scores"] >= KEPT_FROM).sum(axis=1).max()))
        kept = {name: array[:, :most] for name, array in outputs.items()}
        return kept | {"masks": np.where(kept["masks"] < INSIDE, 0, 255).astype(np.uint8)}


class QueryLayer(nn.Module):
    """Queries read the tokens, then each other, then go through a perceptron; each a residual of normed queries."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(WIDTH, eps=1e-6) for _ in range(3))
        self.tokens, self.queries = QueryAttention(), QueryAttention()
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(
        self, x_BQC: Tensor, position_QC: Tensor, keys_BNC: Tensor, memory_BNC: Tensor, attended_BQN: Tensor | None
    ) -> Tensor:
        x_BQC = x_BQC + self.tokens(self.norm1(x_BQC) + position_QC, keys_BNC, memory_BNC, attended_BQN)
        y_BQC = self.norm2(x_BQC)
        x_BQC = x_BQC + self.queries(y_BQC + position_QC, y_BQC + position_QC, y_BQC)
        return x_BQC + self.fc2(gelu(self.fc1(self.norm3(x_BQC))))


class QueryAttention(nn.Module):
    """Multi-head attention of queries to tokens or to each other (Vaswani 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.proj = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(
        self, query_BQC: Tensor, key_BNC: Tensor, value_BNC: Tensor, attended_BQN: Tensor | None = None
    ) -> Tensor:
        """`attended_BQN`: True for what a query may read; None: all."""
        *lead, queries, width = query_BQC.shape
        q_BHQE, k_BHNE, v_BHNE = (
            linear(x_BNC).reshape(*(lead or [1]), x_BNC.shape[-2], HEADS, -1).transpose(1, 2)
            for linear, x_BNC in ((self.q, query_BQC), (self.k, key_BNC), (self.v, value_BNC))
        )
        logits_BHQN = (q_BHQE * (WIDTH // HEADS) ** -0.5) @ k_BHNE.transpose(-2, -1)
        if attended_BQN is not None:
            logits_BHQN = logits_BHQN.masked_fill(~attended_BQN[:, None], -1e4)
        out_BHQE = logits_BHQN.softmax(-1).to(v_BHNE.dtype) @ v_BHNE
        read_BQC: Tensor = self.proj(out_BHQE.transpose(1, 2).reshape(*lead, queries, width))
        return read_BQC


def _perceptron(outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, outputs))


def sine_positions(grid: tuple[int, int], width: int, device: torch.device | None = None) -> Tensor:
    """Where each token of a grid is, (N, C): sines and cosines of y and x, the same for a place at every size of the grid
    (Vaswani 2017, section 3.5, of two coordinates).

    Args:
        width: C, a multiple of four.
    """
    count = width // 4
    wave_F = torch.logspace(log10(LEAST_WAVES), log10(MOST_WAVES), count, device=device)
    waves = []
    for size in grid:
        angle_SF = 2 * pi * ((torch.arange(size, device=device) + 0.5) / size)[:, None] * wave_F
        waves.append(torch.cat((angle_SF.sin(), angle_SF.cos()), dim=-1))
    rows_GhC, columns_GwC = waves
    both = (rows_GhC[:, None].expand(-1, grid[1], -1), columns_GwC[None].expand(grid[0], -1, -1))
    return torch.cat(both, dim=-1).flatten(0, 1)


def mean_inside(masks_Qhw: Tensor) -> Tensor:
    """The mean probability of the pixels that are inside each mask, of logits: (Q,); 0 where there is none. Of every two by two
    pixels the most probable one stands for all: a quarter of the work, and no thing is too small to be seen."""
    inside_QP = F.max_pool2d(masks_Qhw[None], 2, ceil_mode=True).squeeze(0).flatten(1).sigmoid()
    covered_QP = (inside_QP > 0.5).to(inside_QP.dtype)
    return (inside_QP * covered_QP).sum(-1) / (covered_QP.sum(-1) + 1e-6)


def batched(x_BNC: Tensor) -> Tensor:
    """With the batch of one that the rows of a graph have not."""
    return x_BNC if x_BNC.ndim == 3 else x_BNC[None]


def first(of_B: Tensor) -> Tensor:
    """What is said of the first frame of a batch; of a graph's only frame without a copy."""
    return of_B.squeeze(0) if of_B.shape[0] == 1 else of_B[0]


def corners(box_Q4: Tensor) -> Tensor:
    """Centre, width and height -> left, top, right, bottom; on the last axis."""
    middle, half = box_Q4[..., :2], box_Q4[..., 2:] / 2
    return torch.cat((middle - half, middle + half), dim=-1)
