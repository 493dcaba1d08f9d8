"""Where buckets are placed."""

import numpy as np
import pytest

from edgeprune.bundle import FULL
from edgeprune.bundle.target import BucketFamily, load_target
from edgeprune.export.family import ROWS, buckets_of_frames, in_rows, place_buckets, rising
from edgeprune.export.inputs import BuildInputs
from edgeprune.export.lint.rules import MAX_TOPK
from edgeprune.model.policy import Shape
from edgeprune.model.schedule import Schedule
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.methods import POLICIES, make_policy
from edgeprune.pruning.methods.decisions import CombinedSchedule
from edgeprune.quantize.loading import load

N, GATES = 768, 9
SVIT = make_policy(PolicySpec(name="svit"), Shape(192, 12, (24, 32), 11))


def measured(frames: int = 40) -> np.ndarray:
    """Occupancy (F, G): counts that fall from gate to gate, whole numbers of tokens."""
    random = np.random.default_rng(0)
    first_F = random.integers(150, 700, frames)
    return np.stack([np.floor(first_F * 0.9**gate) for gate in range(GATES)], 1) / N


@pytest.mark.parametrize("multiple", [32, 64])
@pytest.mark.parametrize("with_occupancy", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_every_family(multiple: int, with_occupancy: bool, count: int) -> None:
    spec = BucketFamily(count=count, multiple=multiple)
    buckets = place_buckets(SVIT.schedule, spec, measured().tolist() if with_occupancy else None)
    assert 1 <= len(buckets) <= count and (with_occupancy or len(buckets) == count)
    assert buckets[-1].name == FULL and buckets[-1].counts == (N,) * GATES
    firsts = [bucket.counts[0] for bucket in buckets]
    assert firsts == sorted(set(firsts))
    for bucket in buckets:
        assert len(bucket.counts) == GATES
        assert all(0 < count <= N and (count % multiple == 0 or count == N) for count in bucket.counts)
    assert [bucket.name for bucket in buckets[:-1]] == [f"k{first}" for first in firsts[:-1]]


@pytest.mark.parametrize("multiple", [1, 4, 16, 32, 64])
@pytest.mark.parametrize("name", [name for name in POLICIES if name not in ("dense", "ats")])  # these have no family
def test_every_stage_has_rows_in_eights(name: str, multiple: int) -> None:
    options = {"levels": [[4, 0.1], [2, 0.4]], "exits": {"exits": [4, 8], "keep": [0.7, 0.5]}, "gates": {"first": 3}}
    spec = PolicySpec(name=name, options=options if name == "combined" else {})
    policy = make_policy(spec, Shape(192, 12, (24, 32), 11))
    random = np.random.default_rng(0)
    for shares_G in (np.asarray(policy.schedule.target_shares), np.linspace(0.93, 0.31, len(policy.gated))):
        asked_FG = [np.minimum(1, shares_G * scale).tolist() for scale in random.uniform(0.5, 1.2, 20)]
        for occupancy in (None, [[round(share * N) / N for share in asked_G] for asked_G in asked_FG]):
            buckets = place_buckets(policy.schedule, BucketFamily(count=5, multiple=multiple), occupancy)
            assert buckets[-1].counts == (N,) * len(policy.gated) and (len(buckets) > 1 or multiple == 64)
            for bucket in buckets:
                assert policy.schedule.round_up(bucket.counts) == bucket.counts
                rows = [count for place, count in enumerate(bucket.counts) if policy.schedule.makes_rows(place)]
                assert all((count + policy.schedule.extra_rows) % ROWS == 0 or count == N for count in rows)


@pytest.mark.parametrize(("need", "count"), [(470, 480), (481, 504), (504, 504), (505, 528), (560, 576), (700, 720)])
def test_merged_counts_are_the_nearest_in_eights(need: int, count: int) -> None:
    """Four patches become one: 768 less three for each, so 504 and 528 where 512 was asked for, and 513 before."""
    policy = make_policy(PolicySpec(name="cts-svit"), Shape(192, 12, (24, 32), 11))
    buckets = place_buckets(policy.schedule, BucketFamily(count=2, multiple=32), [[need / N] + [0.3] * 9] * 4)
    assert buckets[0].counts[0] == count


def test_every_calibration_frame_has_a_bucket_and_the_first_gates_need_is_met_closely() -> None:
    occupancy = measured()
    buckets = place_buckets(SVIT.schedule, BucketFamily(count=5, multiple=32), occupancy.tolist())
    firsts = np.array([bucket.counts[0] for bucket in buckets])
    counts_F = np.rint(occupancy[:, 0] * N)
    chosen_F = np.array([firsts[firsts >= count][0] for count in counts_F])
    assert (chosen_F < N).all()  # no frame of the calibration needs the full grid
    shares = [np.mean(chosen_F == first) for first in firsts[:-2]]
    assert len(shares) == 3 and all(0.2 < share < 0.5 for share in shares) and sum(shares) == 1


def test_a_decision_that_may_not_pick_so_many_takes_all() -> None:
    """TensorRT's TopK ends at 3,840; a grid of 64x64 holds 4,096 tokens."""
    policy = make_policy(PolicySpec(name="svit"), Shape(192, 12, (64, 64), 11))
    family = load_target("jetson-orin").buckets
    assert family.most == MAX_TOPK
    heavy = [[3900 / 4096] * GATES] * 8 + [[3000 / 4096] * GATES] * 8 + [[3000 / 4096] * 3 + [3900 / 4096] * 6] * 8
    free = place_buckets(policy.schedule, family.model_copy(update={"most": None}), heavy)
    assert any(MAX_TOPK < count < 4096 for bucket in free for count in bucket.counts)
    capped = place_buckets(policy.schedule, family, heavy)
    assert len(capped) >= 2 and capped[-1].name == FULL
    assert all(count <= MAX_TOPK or count == 4096 for bucket in capped for count in bucket.counts)
    assert any(count == 4096 for bucket in capped[:-1] for count in bucket.counts)


@pytest.mark.parametrize(("name", "count"), [("step", 3841), ("cts-svit", 3904)])
def test_few_groups_merge_of_more_tokens_than_a_decision_may_pick(name: str, count: int) -> None:
    """What a TopK takes are the groups that merge: one superpatch of 16x16 leaves 3,841 of 4,096 tokens."""
    schedule = make_policy(PolicySpec(name=name), Shape(192, 12, (64, 64), 11)).schedule
    needs = [3841, 3000, 2500, 2000, 1500, 1000] if name == "step" else [3841, *[3000] * 9]
    first = place_buckets(schedule, load_target("jetson-orin").buckets, [[need / 4096 for need in needs]] * 8)[0]
    assert first.counts[0] == count and max(first.counts[1:]) <= MAX_TOPK
    assert isinstance(schedule, CombinedSchedule) and max(schedule.merges(first.counts)) <= MAX_TOPK


@pytest.mark.parametrize(("name", "options"), [("svit", {}), ("cts-svit", {"merged": 0.62})])
def test_a_policy_that_was_trained_with_few_tokens_has_two_buckets_more(name: str, options: dict[str, object]) -> None:
    """Below those that frames ask for, which stay as they are; the smallest has `least` of the target's tokens."""
    shape, family = Shape(192, 12, (24, 32), 11), BucketFamily(count=5, multiple=32)
    without = make_policy(PolicySpec(name=name, options=options), shape).schedule
    schedule = make_policy(PolicySpec(name=name, options=options | {"least": 0.5}), shape).schedule
    occupancy = [[share * 0.9 for share in schedule.target_shares]] * 8 + [list(schedule.target_shares)] * 8
    smallest, small, *others = place_buckets(schedule, family, occupancy)
    assert others == place_buckets(without, family, occupancy)
    assert smallest.counts == in_rows(schedule, schedule.counts_at(0.5))
    assert sum(smallest.counts) < sum(small.counts) < sum(others[0].counts)
    assert smallest.for_budgets and small.for_budgets and not any(bucket.for_budgets for bucket in others)
    few = [[1 / schedule.tokens] * len(schedule.gated)]
    assert buckets_of_frames(schedule, [smallest, small, *others], [*few, *occupancy[:1]]) == [2, 2]


@pytest.mark.parametrize("with_occupancy", [True, False])
def test_the_last_but_one_of_four_leaves_headroom(with_occupancy: bool) -> None:
    """Midway at every gate, to the multiple; it takes no bucket's place in smaller families."""
    occupancy = [[480 / N] * 3 + [256 / N] * 6] * 8 if with_occupancy else None
    largest, headroom, full = place_buckets(SVIT.schedule, BucketFamily(count=4, multiple=32), occupancy)[-3:]
    assert full.name == FULL
    for at_most, between in zip(largest.counts, headroom.counts, strict=True):
        assert abs(between - (at_most + N) / 2) <= 32
    assert len(place_buckets(SVIT.schedule, BucketFamily(count=3, multiple=32), [[0.5] * GATES] * 8)) == 2


def test_later_gates_hold_three_of_four_of_the_buckets_own_frames() -> None:
    light = [[100 / N] + [need / N] * 8 for need in (0, 32, 64, 96, 320)]
    heavy = [[600 / N] + [need / N] * 8 for need in (0, 0, 0, 256, 512)]
    buckets = place_buckets(SVIT.schedule, BucketFamily(count=3, multiple=32), [*heavy, *light])
    assert buckets[0].counts == (128, *[96] * 8) and buckets[1].counts == (608, *[256] * 8)


def test_a_larger_bucket_computes_no_less_anywhere() -> None:
    """Needs that fall as the first gate's rise: the mean of them is what every bucket gets."""
    frames = [[first / N] + [(600 - first) / N] * 8 for first in (160, 224, 288, 352)]
    buckets = place_buckets(SVIT.schedule, BucketFamily(count=6, multiple=32), frames)
    assert [bucket.counts for bucket in buckets[:-2]] == [(first, *[352] * 8) for first in (160, 224, 288, 352)]


def test_rising() -> None:
    assert rising([1, 3, 2, 2, 5], [1, 1, 1, 2, 1]) == pytest.approx([1, 2.25, 2.25, 2.25, 5])
    random = np.random.default_rng(0)
    for _ in range(50):
        values, weights = random.normal(size=7), random.integers(1, 5, 7)
        found = np.array(rising(values.tolist(), weights.tolist()))
        assert (np.diff(found) >= 0).all()
        assert found @ weights == pytest.approx(values @ weights)
        # no rising sequence is nearer: not the running maximum, not the mean, not small changes of its own
        error = ((found - values) ** 2) @ weights
        others = [np.maximum.accumulate(values), np.full(7, (values @ weights) / weights.sum())]
        others += [np.sort(found + random.normal(0, 0.1, 7)) for _ in range(20)]
        assert all(error <= ((other - values) ** 2) @ weights + 1e-9 for other in others)


@pytest.mark.parametrize("digits", [4, 5, 6])
def test_rounded_shares_stand_for_whole_counts(digits: int) -> None:
    """A need of exactly 320 tokens is a bucket of 320, though 320/768 was rounded up on its way through a YAML."""
    for count in range(32, 768, 32):
        occupancy = [[round(count / N, digits)] * GATES] * 4
        buckets = place_buckets(SVIT.schedule, BucketFamily(count=2, multiple=32), occupancy)
        assert buckets[0].counts == (count,) * GATES


def test_cuts_that_round_to_one_count_are_one_bucket_with_the_larger_needs() -> None:
    occupancy = [[100 / N] + [32 / N] * 8, [120 / N] + [120 / N] * 8]
    buckets = place_buckets(SVIT.schedule, BucketFamily(count=3, multiple=64), occupancy)
    assert [bucket.counts for bucket in buckets[:-1]] == [(128, *[128] * 8)]


def test_without_occupancy_the_last_cut_is_the_policys_target() -> None:
    buckets = place_buckets(SVIT.schedule, BucketFamily(count=5, multiple=32), None)
    assert buckets[-3].counts == (544,) * 3 + (384,) * 3 + (256,) * 3
    assert buckets[0].counts == (192,) * 3 + (128,) * 3 + (96,) * 3


def test_fewer_frames_than_buckets() -> None:
    buckets = place_buckets(SVIT.schedule, BucketFamily(count=5, multiple=64), measured(2).tolist())
    assert len(buckets) in (3, 4) and buckets[-1].name == FULL


def test_a_multiple_larger_than_the_grid_leaves_the_full_grid() -> None:
    assert [bucket.name for bucket in place_buckets(SVIT.schedule, BucketFamily(count=5, multiple=1024), None)] == [
        FULL
    ]


def test_the_dense_policy_has_one_bucket_without_counts() -> None:
    buckets = place_buckets(Schedule(12, (24, 32)), BucketFamily(), None)
    assert [(bucket.name, bucket.counts) for bucket in buckets] == [(FULL, ())]


def test_one_bucket_is_the_full_grid(inputs: BuildInputs) -> None:
    assert inputs.calib is not None
    policy = load(inputs.checkpoint)[0].policy
    assert len(place_buckets(policy.schedule, BucketFamily(count=1), inputs.calib.occupancy["int8"])) == 1
