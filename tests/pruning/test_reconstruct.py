"""Sparse to dense: what the cells of dropped tokens get, by DynaPrune's learned kernel and by what it is compared with."""

import math
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edgeprune.export.graphs import export_tail
from edgeprune.model.policy import Bucket
from edgeprune.pruning.reconstruct import Learned, Nearest
from edgeprune.pruning.selection import select_none
from tests import models
from tests.pruning.dynapruned import HALF, VARIANTS, disturbed, dynaprune, fixed, run


def test_distance_alone_weighs_at_the_start_and_tau_is_one_patch() -> None:
    """With phi = 0 the softmax's argument is -||p - p_i||."""
    learned = Learned((3, 4))
    torch.nn.init.zeros_(learned.fc2.weight)
    torch.nn.init.zeros_(learned.fc2.bias)
    cells = [divmod(cell, 4) for cell in range(12)]
    expected_NN = [[-math.dist(p, p_i) for p_i in cells] for p in cells]
    torch.testing.assert_close(learned.table((3, 4)), torch.tensor(expected_NN))


def test_a_crop_has_the_weights_of_the_same_offsets() -> None:
    torch.manual_seed(0)
    learned = Learned((4, 6))
    large_NN, small_NN = (learned.table(grid).detach() for grid in ((4, 6), (2, 3)))
    inside = [0, 1, 2, 6, 7, 8]
    torch.testing.assert_close(small_NN, large_NN[inside][:, inside])


@pytest.mark.parametrize("options", [{}, {"smooth": True}, {"reconstruction": "nearest"}])
def test_what_left_at_the_first_stage_leaves_no_trace(options: dict[str, Any]) -> None:
    """It is no key, and the reconstruction ignores it."""
    model, _ = dynaprune(**options)
    with torch.no_grad():
        assert torch.equal(*disturbed(model, fixed(HALF, HALF, HALF)))


@pytest.mark.parametrize("smooth", [False, True])
def test_cells_whose_token_remains_keep_it_but_for_smooth(smooth: bool) -> None:
    model, _ = dynaprune(smooth=smooth)
    preserving, _ = dynaprune(reconstruction="preserve")
    preserving.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        x_ND, own_ND = (run(each, fixed(HALF, HALF, HALF)).x_BND[0] for each in (model, preserving))
    same_N = torch.isclose(x_ND, own_ND, atol=1e-4).all(-1)
    assert not same_N[12:].any()
    assert same_N[:12].tolist() == [not smooth] * 12


def test_equally_near_tokens_give_way_to_the_first_in_the_grid() -> None:
    nearest = Nearest((1, 5))
    x_BND = torch.arange(5.0)[None, :, None]
    f_BND = nearest.masked(x_BND, torch.tensor([[1.0, 0, 1, 0, 1]]), (1, 5))
    assert f_BND.flatten().tolist() == [0, 0, 2, 2, 4]
    # whatever order TopK gives them in
    assert nearest.gathered(torch.tensor([[4.0], [0], [2]]), torch.tensor([4, 0, 2])).flatten().tolist() == [
        0,
        0,
        2,
        2,
        4,
    ]


def test_the_graph_holds_the_table_of_the_weights_as_they_are() -> None:
    """A model that is in evaluation mode already, and gets other weights then."""
    model, made = dynaprune()
    assert isinstance(made.reconstruction, Learned)
    with torch.no_grad():
        made.reconstruction.tau.add_(1.5)
        expected_NN = made.reconstruction.table(models.GRID).numpy()
    proto = export_tail(model, Bucket("few", (12, 8, 8)), "onnxruntime")
    held = [onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer if "table_NN" in tensor.name]
    assert len(held) == 1 and np.array_equal(held[0], expected_NN)
    assert not any("fc1" in tensor.name and "reconstruction" in tensor.name for tensor in proto.graph.initializer)
    assert "policy.reconstruction.table_NN" not in model.state_dict()


def test_an_image_of_which_nothing_remains_passes_unchanged() -> None:
    for options in VARIANTS:
        model, _ = dynaprune(**options)
        masked = run(model, select_none, batch=2)
        x_BND = model.embed(models.images(2))[0]
        torch.testing.assert_close(masked.x_BND, model.blocks[0](x_BND))
        masked.x_BND.sum().backward()
        assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
