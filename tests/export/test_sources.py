"""What a build is made from: the checkpoint, what lies beside it, frames for parity."""

from pathlib import Path

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.data.preprocess import Preprocess
from edgeprune.export.sources import PARITY_FRAMES, Sources, find_sources, frames_for_parity
from tests import models


def test_parity_frames_are_the_calibrations_or_scenes_of_the_street(sources: Sources, tmp_path: Path) -> None:
    assert sources.calib is not None
    images, where = frames_for_parity(sources.calib, Preprocess(64, 96))
    assert images.shape == (PARITY_FRAMES, 64, 96, 3) and where.endswith("train")
    assert np.array_equal(images[3], models.scene(3)[0])
    elsewhere = [
        sources.calib.model_copy(update={"data": str(tmp_path / "gone.yaml")}),
        sources.calib.model_copy(update={"split": "val"}),  # has 4 frames
        None,
    ]
    for calib in elsewhere:
        images, where = frames_for_parity(calib, Preprocess(64, 96))
        assert images.shape == (PARITY_FRAMES, 64, 96, 3) and where == "the synthetic street"
        assert len({image.tobytes() for image in images}) == PARITY_FRAMES


def test_a_reference_beside_the_checkpoint_is_found(sources: Sources, tmp_path: Path) -> None:
    for name in ("qat", "reference"):
        (tmp_path / f"{name}.safetensors").write_bytes(sources.checkpoint.read_bytes())
    assert find_sources(tmp_path / "qat.safetensors", None, None).reference == tmp_path / "reference.safetensors"


def test_sources_that_are_not_there_or_damaged_are_refused(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="checkpoint .*gone.safetensors is not there"):
        find_sources(tmp_path / "gone.safetensors", None, None)
    with pytest.raises(InputError, match="calibration .*gone.yaml is not there"):
        find_sources(sources.checkpoint, tmp_path / "gone.yaml", None)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(sources.checkpoint.read_bytes()[:10_000])
    with pytest.raises(InputError, match="cut.safetensors is not a whole safetensors file"):
        find_sources(cut, None, None)
