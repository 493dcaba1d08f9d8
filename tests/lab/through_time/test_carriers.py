"""Ways to carry tokens: with all tokens computed each is the dense network; what a still stream gives never changes."""

import pytest
import torch
from torch import Tensor, nn

from edgeprune.lab.through_time.carriers import CARRIERS, Buffer, Carrier, KeysAndValues
from edgeprune.model.blocks import Block

GRID, TOKENS, WIDTH = (4, 6), 24, 128


@pytest.fixture
def blocks() -> nn.ModuleList:
    torch.manual_seed(0)
    made = nn.ModuleList(Block(WIDTH, layer_scale=0.5) for _ in range(3))
    for each in made.parameters():
        nn.init.normal_(each, std=0.2)
    return made.requires_grad_(False).eval()


def dense(blocks: nn.ModuleList, x_ND: Tensor) -> Tensor:
    for block in blocks:
        x_ND = block(x_ND)
    return x_ND


@pytest.mark.parametrize("way", CARRIERS)
def test_where_every_token_is_computed_it_is_the_dense_network(way: str, blocks: nn.ModuleList) -> None:
    carrier = CARRIERS[way](blocks, TOKENS, GRID)
    for x_ND in torch.randn(3, TOKENS, WIDTH):
        torch.testing.assert_close(carrier.features(x_ND), dense(blocks, x_ND), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", [way for way in CARRIERS if way not in ("final features", "half of them")])
def test_a_still_stream_keeps_its_features(way: str, blocks: nn.ModuleList) -> None:
    carrier, x_ND = CARRIERS[way](blocks, TOKENS // 4, GRID), torch.randn(TOKENS, WIDTH)
    for _ in range(5):
        torch.testing.assert_close(carrier.features(x_ND), dense(blocks, x_ND), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", ["keys and values", "final features"])
def test_the_tokens_that_changed_are_computed_and_no_others(way: str, blocks: nn.ModuleList) -> None:
    carrier, x_ND = CARRIERS[way](blocks, 3, GRID), torch.randn(TOKENS, WIDTH)
    before_ND = carrier.features(x_ND).clone()
    x_ND = x_ND.clone()
    x_ND[[4, 9, 20]] += 1
    changed_N = (carrier.features(x_ND) != before_ND).any(-1)
    assert changed_N.nonzero().flatten().tolist() == [4, 9, 20]


def test_changed_tokens_see_the_others_where_keys_and_values_are_kept(blocks: nn.ModuleList) -> None:
    """In one block what the changed tokens get is what the dense network gives them; without the others it is not."""
    one = blocks[:1]
    x_ND = torch.randn(TOKENS, WIDTH)
    later_ND = x_ND.clone()
    later_ND[[4, 9, 20]] += 1
    found: dict[str, Tensor] = {}
    for way in ("keys and values", "final features"):
        carrier: Carrier = CARRIERS[way](one, 3, GRID)
        carrier.features(x_ND)
        found[way] = carrier.features(later_ND)[[4, 9, 20]]
    expected_KD = dense(one, later_ND)[[4, 9, 20]]
    torch.testing.assert_close(found["keys and values"], expected_KD, rtol=1e-4, atol=1e-4)
    assert (found["final features"] - expected_KD).abs().max() > 0.1


def test_of_half_of_the_keys_the_changed_tokens_see_another_half_in_each_block(blocks: nn.ModuleList) -> None:
    carrier = CARRIERS["half of them"](blocks, 3, GRID)
    assert isinstance(carrier, KeysAndValues)
    chosen_K, found = torch.tensor([4, 9, 20]), set()
    for number in range(2):
        seen_N, weight_N = carrier.seen(number, chosen_K)
        assert seen_N is not None and weight_N is not None
        tokens = set(seen_N.nonzero().flatten().tolist())
        found |= tokens
        assert {4, 9, 20} <= tokens and 12 <= len(tokens) <= 15
        assert {token for token in range(TOKENS) if weight_N[token] == 0} == {4, 9, 20}
    assert found == set(range(TOKENS))


def test_the_farthest_from_what_they_were_computed_from_are_chosen() -> None:
    gate, x_ND = Buffer(), torch.zeros(5, 2)
    gate.refer(x_ND, torch.arange(5))
    moved_ND = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    first_K = gate.farthest(moved_ND, 2)
    assert sorted(first_K.tolist()) == [1, 3]
    gate.refer(moved_ND, first_K)
    assert gate.farthest(moved_ND, 1).tolist() == [2]  # what was computed is as it is now; what was not adds up
