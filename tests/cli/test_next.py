"""What `build` and `train` say to type next."""

from pathlib import Path

import pytest

from edgeprune.bundle.target import load_target
from edgeprune.cli.build import what_next
from edgeprune.cli.train import to_build
from edgeprune.quantize.calib import Calib
from edgeprune.train.recipe_file import load_recipe

OF_A_SET = Calib(model="tiny", data="yard.yaml", split="train", frames=[])
OF_A_CAMERA = Calib(model="tiny", data="rtsp://host/live", frames=[])


@pytest.mark.parametrize(
    ("target", "calib", "frames", "typed"),
    [
        ("onnx-cpu", OF_A_SET, "yard.yaml train", "edgeprune eval --bundle b --data yard.yaml"),
        (
            "onnx-cpu",
            OF_A_SET,  # which is not at hand
            "the synthetic street",
            "edgeprune run --bundle b --camera synthetic://street?seed=1 --frames 100",
        ),
        (
            "onnx-cpu",
            OF_A_CAMERA,
            "the synthetic street",
            "edgeprune run --bundle b --camera rtsp://host/live --frames 100",
        ),
        (
            "onnx-cpu",
            None,
            "the synthetic street",
            "edgeprune run --bundle b --camera synthetic://street?seed=1 --frames 100",
        ),
        (
            "jetson-orin",
            OF_A_SET,
            "yard.yaml train",
            "copy b to the device and run there: edgeprune run --bundle b --camera 0",
        ),
    ],
)
def test_what_a_bundle_is_for(target: str, calib: Calib | None, frames: str, typed: str) -> None:
    assert what_next(load_target(target), Path("b"), calib, frames) == typed


@pytest.mark.parametrize(
    ("phases", "built"),
    [
        (["crops", "sparse", "qat", "dense"], "qat"),  # `dense` is the control
        (["crops", "sparse", "dense"], "sparse"),
        (["crops", "dense"], "dense"),
    ],
)
def test_what_of_a_training_is_built(phases: list[str], built: str) -> None:
    paths = [Path("out") / f"{name}.safetensors" for name in phases]
    assert to_build(load_recipe("indoor"), paths) == Path("out") / f"{built}.safetensors"
