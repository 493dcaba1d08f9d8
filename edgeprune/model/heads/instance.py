"""The instance task: tokens -> things, each with a class, a score, a box and a mask, by queries (Cheng 2022, "Masked-attention
Mask Transformer", Mask2Former) that begin at places of the frame (`places.py`), read the tokens, and are multiplied with pixel
embeddings at stride 4.

Without NMS: two queries learn not to say the same thing, for a label is given to one of them alone (`train/matching.py`).
Masked attention (section 3.2.1 there) helps the queries to find their things while they learn, and is annealed away (Kerssies
2025, "Your ViT is Secretly an Image Segmentation Model", mask annealing): the graph has plain attention alone.

Shapes: B batch, N tokens of the grid (Gh x Gw), D width, Q queries, C channels of a query, E of a pixel embedding, K classes, T
things that a graph gives, h w pixels at stride 4, P places of stride 8 (Ph x Pw), F channels there.
"""

from collections.abc import Mapping, Sequence
from math import ceil, lcm, log

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.model.heads import places
from edgeprune.model.heads.answers import Answers, corners
from edgeprune.model.heads.decoder import (
    WIDTH,
    InsideMask,
    MaskExtent,
    QueryLayer,
    Residual,
    perceptron,
    sine_positions,
)
from edgeprune.model.heads.guided import Guided
from edgeprune.model.heads.head import Array
from edgeprune.model.heads.likeness import largest_difference
from edgeprune.model.heads.semantic import CHANNELS, Pyramid
from edgeprune.model.spec import ModelSpec
from edgeprune.runtime.tasks.instance import LEAST_SCORE
from edgeprune.runtime.tasks.semantic import NO_CLASS
from edgeprune.runtime.tasks.things import INSIDE

STRIDE = 4  # of the masks
LAYERS = 3
MOST_THINGS = 100  # that a graph gives, as COCO's metric counts
LEVELS = 255.99  # times a probability, and cut, for rounding is a pass over all masks more; INSIDE is the first above one half
KEPT_FROM = 0.3  # the score of things that a bundle's references keep; what is compared has more


class QueryHead(Pyramid):
    """Q queries, each from a place of the frame, through LAYERS layers: each reads what is inside its mask so far, the tokens,
    then the other queries, then thinks for itself."""

    query_numbers: Tensor
    class_numbers: Tensor
    positions_NC: Tensor
    places_PC: Tensor
    anchors_P4: Tensor

    def __init__(self, width: int, spec: ModelSpec, skip_channels: Sequence[int]):
        check_size(spec)
        super().__init__(width, spec, skip_channels)
        self.label_stride = STRIDE  # a label map is drawn of the masks
        at8, at4 = CHANNELS[spec.convolutions]
        self.classes, self.queries = spec.classes, spec.queries
        self.reduce = nn.Linear(width, WIDTH)
        self.coarse = nn.Conv2d(WIDTH, at8, 1)
        self._add_pyramid(spec, skip_channels)
        self.heatmap = nn.Conv2d(at8, spec.classes, 1)
        self.begin = nn.Linear(at8, WIDTH)
        self.embed = nn.Conv2d(at4, at4, 1)
        self.deepen8, self.deepen4 = Residual(at8), Residual(at4)
        self.inside = nn.ModuleList(InsideMask(at8) for _ in range(LAYERS))
        self.extents = nn.ModuleList(MaskExtent() for _ in range(LAYERS)) if spec.mask_extent else None
        self.layers = nn.ModuleList(QueryLayer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.classify = nn.Linear(WIDTH, spec.classes + 1)
        self.place = perceptron(4)
        self.outline = perceptron(at4)
        # of each pair of query and class, in the order of a flattened (Q, K), which no graph has to divide for
        numbers = torch.arange(self.queries * spec.classes)
        self.register_buffer("query_numbers", numbers // spec.classes, persistent=False)
        self.register_buffer("class_numbers", (numbers % spec.classes).int(), persistent=False)
        self.grid, self.grid8, extent = spec.grid, at_stride8(spec), (spec.height, spec.width)
        self.register_buffer("positions_NC", sine_positions(self.grid, extent, WIDTH), persistent=False)
        self.register_buffer("places_PC", sine_positions(self.grid8, extent, WIDTH), persistent=False)
        self.register_buffer("anchors_P4", places.anchors(self.grid8, extent), persistent=False)
        self.masked = (
            0.0  # the probability that a query's attention is masked in training; see `train/tasks/instance.py`
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("classes", "scores", "boxes", "masks")

    def initialise(self) -> None:
        """Linears as those of Mask2Former's decoder (Glorot 2010): with the small weights of a ViT's all queries would say the
        same for long. At first nothing is the middle of a thing, and boxes are those of the places."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and name != "reduce" and not name.startswith("extents."):
                nn.init.xavier_uniform_(module.weight)
        last = self.place[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.normal_(self.heatmap.weight, std=0.01)
        assert self.heatmap.bias is not None
        nn.init.constant_(self.heatmap.bias, -log(1 / places.FIRST_PROBABILITY - 1))

    def forward(
        self, x_BND: Tensor, grid: tuple[int, int], skips: Sequence[Tensor], guided: Guided | None = None
    ) -> Answers:
        # in a graph rows of two dimensions: a linear is then one product with its bias, and no shape changes before and after
        memory_BNC = self.reduce(x_BND.squeeze(0) if torch.compiler.is_exporting() else x_BND)
        x_BCHW = self.coarse(batched(memory_BNC).transpose(1, 2).unflatten(2, grid))
        fine_BFHW = self.deepen8(self._to_stride8(x_BCHW, grid, skips))
        pixels_BEhw = self.deepen4(self._to_stride4(fine_BFHW, grid, skips))
        counted_BGP = torch.cat((fine_BFHW, torch.ones_like(fine_BFHW[:, :1])), dim=1).flatten(2)
        coarse_BEHW = F.avg_pool2d(pixels_BEhw, 2, ceil_mode=True, count_include_pad=False)
        heatmap_BKHW = self._heatmap(fine_BFHW)
        place_BQ, seen_BQQ = places.find_places(heatmap_BKHW, self.queries), None
        queries = place_BQ.shape[1]
        if guided is not None:
            place_BQ, seen_BQQ = torch.cat((place_BQ, guided.places_BG), dim=1), guided.seen_by(queries)
        queries_BQC, position_BQC, anchor_BQ4 = self._begin(fine_BFHW, place_BQ, grid)
        keys_BNC = memory_BNC + self._positions(grid, memory_BNC)
        middles_P2 = self._anchors(grid, fine_BFHW)[:, :2]
        answers = Answers([], [], [], heatmap_BKHW, place_BQ)
        for number in range(LAYERS + 1):
            x_BQC = self.norm(queries_BQC)
            outline, boxes_BQ4 = self._outline(x_BQC), self._boxes(x_BQC, anchor_BQ4)
            # a graph has no use for what is learnt on the way, but for attention that is masked
            if self.training or number == LAYERS:
                answers.logits.append(batched(self.classify(x_BQC)))
                answers.boxes.append(boxes_BQ4)
                answers.masks.append(places.masks_of(*outline, boxes_BQ4, pixels_BEhw))
            if number < LAYERS:
                inside_BQP = places.masks_of(*outline, boxes_BQ4, coarse_BEHW).flatten(2)
                queries_BQC = self.inside[number](queries_BQC, inside_BQP, counted_BGP)
                if self.extents is not None:
                    # of a box that is too small as yet the mask says more than the box
                    wide_BQP = places.masks_of(
                        *outline, boxes_BQ4 * boxes_BQ4.new_tensor((1, 1, 2, 2)), coarse_BEHW
                    ).flatten(2)
                    queries_BQC = queries_BQC + self.extents[number](wide_BQP, middles_P2, anchor_BQ4)
                attended_BQN = self._attended(answers, grid)
                about = (position_BQC, keys_BNC, memory_BNC, attended_BQN, seen_BQQ)
                queries_BQC = self.layers[number](queries_BQC, *about)
        return answers if guided is None else answers.parted(queries)

    def _heatmap(self, fine_BFHW: Tensor) -> Tensor:
        """Logits of the middle of a thing of each class at each place, (B, K, H, W), in float: in bfloat16 neighbours are alike
        to the last digit, each is a maximum, and queries begin beside each other."""
        with torch.autocast(fine_BFHW.device.type, enabled=False):
            heatmap_BKHW: Tensor = self.heatmap(fine_BFHW.to(self.heatmap.weight.dtype))
        return heatmap_BKHW

    def _begin(self, fine_BFHW: Tensor, place_BQ: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """What is found at each query's place, (B, Q, C), where that is, alike, and its first box, (B, Q, 4); of the one frame
        of a graph as rows."""
        if torch.compiler.is_exporting():
            place_Q = place_BQ.squeeze(0)
            found_QF = fine_BFHW.flatten(2).squeeze(0).index_select(1, place_Q).T
            position_QC, anchor_Q4 = self.places_PC.index_select(0, place_Q), self.anchors_P4.index_select(0, place_Q)
            return self.begin(found_QF), position_QC.to(found_QF.dtype), anchor_Q4
        places_PC, anchors_P4 = self.places_PC, self._anchors(grid, fine_BFHW)
        if grid != self.grid:
            places_PC = sine_positions(
                (fine_BFHW.shape[-2], fine_BFHW.shape[-1]), self._extent(grid), WIDTH, fine_BFHW.device
            )
        index_BQF = place_BQ[..., None].expand(-1, -1, fine_BFHW.shape[1])
        found_BQF = fine_BFHW.flatten(2).transpose(1, 2).gather(1, index_BQF)
        return self.begin(found_BQF), places_PC[place_BQ].to(found_BQF.dtype), anchors_P4[place_BQ]

    def _anchors(self, grid: tuple[int, int], fine_BFHW: Tensor) -> Tensor:
        """The box that a query of each place begins with, (P, 4); a constant of a graph."""
        if grid == self.grid:
            return self.anchors_P4
        return places.anchors((fine_BFHW.shape[-2], fine_BFHW.shape[-1]), self._extent(grid), fine_BFHW.device)

    def _positions(self, grid: tuple[int, int], like: Tensor) -> Tensor:
        """Where the tokens are, (N, C), in the type of `like`; a constant of a graph, whose grid is the model's own."""
        positions_NC = self.positions_NC
        if grid != self.grid:
            positions_NC = sine_positions(grid, self._extent(grid), WIDTH, like.device)
        return positions_NC.to(like.dtype)

    def _extent(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a window, in pixels."""
        return grid[0] * self.patch, grid[1] * self.patch

    def _outline(self, x_BQC: Tensor) -> tuple[Tensor, Tensor]:
        """What a query's mask is the product of pixels with, (B, Q, E), and what is added to it, (B, Q): those of the pixel
        embeddings, a linear of the pixels, brought to the side of the queries, of which there are fewer."""
        outline_BQE = batched(self.outline(x_BQC))
        assert self.embed.bias is not None
        return outline_BQE @ self.embed.weight.flatten(1), outline_BQE @ self.embed.bias

    def _boxes(self, x_BQC: Tensor, anchor_BQ4: Tensor) -> Tensor:
        """In float: bfloat16 has two digits for a side."""
        return batched(places.boxes_from(anchor_BQ4, self.place(x_BQC).float()))

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


def check_size(spec: ModelSpec) -> None:
    """Whether an input has whole pixels of masks, and places for all queries.

    Raises:
        InputError: as one line.
    """
    if spec.height % STRIDE or spec.width % STRIDE:
        raise InputError(
            f"model input {spec.height}x{spec.width}: a mask has a pixel for {STRIDE} of the input each way, both must be "
            f"multiples of {STRIDE}, and of the patch: of {lcm(STRIDE, spec.patch)}"
        )
    height, width = at_stride8(spec)
    if spec.queries > height * width:
        raise InputError(
            f"model.queries: {spec.queries} queries, and an input of {spec.height}x{spec.width} has {height * width} places "
            f"for them; choose model.queries: {height * width} or fewer"
        )


def at_stride8(spec: ModelSpec) -> tuple[int, int]:
    """How many places there are, down and across."""
    return ceil(spec.height / places.STRIDE), ceil(spec.width / places.STRIDE)


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
