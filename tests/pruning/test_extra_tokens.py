"""Every policy of POLICIES in a model with a class token and a register: none drops or merges them, in either form."""

import pytest
import torch

from edgeprune.bundle.target import BucketFamily
from edgeprune.export.family import ROWS, place_buckets
from edgeprune.model.segmenter import Segmenter
from edgeprune.pruning.methods import POLICIES
from edgeprune.pruning.selection import select_top
from tests import models

EXTRA = 2


@pytest.fixture(scope="module", params=POLICIES)
def model(request: pytest.FixtureRequest) -> Segmenter:
    return models.model(models.card(request.param, extra=EXTRA))


def counts_of(model: Segmenter, share: float) -> tuple[int, ...]:
    return model.policy.schedule.round_up([round(share * models.N)] * len(model.policy.gated))


def test_both_forms_answer_alike_and_the_extra_tokens_matter(model: Segmenter) -> None:
    images_B3HW, counts = models.images(2), counts_of(model, 0.5)
    select = select_top(model.policy.schedule.candidates(counts))
    with torch.no_grad():
        expected_BKHW = model(images_B3HW, select).raw
        if not model.policy.not_exportable:
            for image_3HW, expected_KHW in zip(images_B3HW, expected_BKHW, strict=True):
                state = model.trunk(image_3HW.permute(1, 2, 0).to(torch.uint8))
                torch.testing.assert_close(model.tail(*state, counts)[0], expected_KHW, rtol=1e-3, atol=1e-3)
        assert model.extra_tokens is not None
        before_1ED = model.extra_tokens.clone()
        model.extra_tokens.add_(torch.linspace(-2, 2, before_1ED.shape[-1]))
        assert (model(images_B3HW, select).raw - expected_BKHW).abs().max() > 1e-2
        model.extra_tokens.copy_(before_1ED)


def test_all_tokens_are_the_dense_model(model: Segmenter) -> None:
    dense = models.model(models.card("dense", extra=EXTRA))
    dense.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        expected_BKHW = dense(models.images(1)).raw
        whole = select_top(model.policy.schedule.candidates(counts_of(model, 1.0)))
        torch.testing.assert_close(model(models.images(1), whole).raw, expected_BKHW, rtol=1e-3, atol=1e-3)


def test_they_learn_from_what_the_grids_tokens_take_of_them(model: Segmenter) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        prediction = model(models.images(2))
    prediction.raw.float().square().mean().backward()
    assert model.extra_tokens is not None and model.extra_tokens.grad is not None
    assert (model.extra_tokens.grad.abs().sum(-1) > 0).all()
    model.zero_grad()


def test_rows_of_buckets_are_in_eights_with_them(model: Segmenter) -> None:
    schedule = model.policy.schedule
    assert schedule.extra_rows >= EXTRA
    if not model.policy.gated or model.policy.not_exportable:
        return
    for bucket in place_buckets(schedule, BucketFamily(count=3, multiple=8), None):
        rows = [count for place, count in enumerate(bucket.counts) if schedule.makes_rows(place)]
        assert all(count == models.N or (count + schedule.extra_rows) % ROWS == 0 for count in rows)
