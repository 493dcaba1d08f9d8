"""Residual convolutions leave a model as one convolution each, and answer the same."""

import onnx
import torch
from torch import nn

from edgeprune.export.graphs import export_dense
from edgeprune.export.residuals import OneConvolution, fold_residuals
from edgeprune.model.heads.decoder import Residual
from tests.export import instances
from tests.train import rectangles


def residual(channels: int, seed: int = 0) -> Residual:
    """One that has learnt: at first it adds nothing."""
    torch.manual_seed(seed)
    made = Residual(channels).eval()
    for parameter in made.norm.parameters():
        nn.init.normal_(parameter)
    assert made.norm.running_mean is not None and made.norm.running_var is not None
    made.norm.running_mean.normal_()
    made.norm.running_var.uniform_(0.5, 2.0)
    return made


def test_one_convolution_answers_as_the_residual() -> None:
    made = residual(8)
    x_BCHW = torch.randn(2, 8, 9, 7)
    with torch.no_grad():
        folded = OneConvolution(made)
        torch.testing.assert_close(folded(x_BCHW), made(x_BCHW), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(made(x_BCHW), torch.relu(x_BCHW), atol=0.1)


def test_a_module_is_folded_in_a_copy_and_one_without_any_is_itself() -> None:
    plain = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
    assert fold_residuals(plain) is plain
    module = nn.Sequential(residual(4, 1), nn.Sequential(residual(4, 2)))
    folded = fold_residuals(module)
    assert not any(isinstance(part, Residual) for part in folded.modules())
    assert sum(isinstance(part, Residual) for part in module.modules()) == 2
    x_BCHW = torch.randn(1, 4, 5, 6)
    with torch.no_grad():
        torch.testing.assert_close(folded(x_BCHW), module(x_BCHW), rtol=1e-5, atol=1e-5)


def test_a_graph_of_things_adds_nothing_beside_a_convolution() -> None:
    model = instances.model(rectangles.things_card())
    proto = export_dense(model, "onnxruntime")
    made_by = {name: node.op_type for node in proto.graph.node for name in node.output}
    norms = {"Conv", "BatchNormalization"}
    sums = [[made_by.get(name) for name in node.input] for node in proto.graph.node if node.op_type == "Add"]
    # a lateral convolution's sum with what comes from above stays
    assert [kinds for kinds in sums if (kinds[0] in norms and kinds[1] == "Relu") or kinds[0] == "Relu"] == []
    assert isinstance(proto, onnx.ModelProto) and any(isinstance(part, Residual) for part in model.modules())
