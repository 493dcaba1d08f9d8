"""A bundle of the instance task, from a checkpoint to a stream."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeprune
from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import Bundle, open_bundle, read_references
from edgeprune.bundle.references import reference_name
from edgeprune.bundle.target import load_target
from edgeprune.data.selection import CalibrationFrames
from edgeprune.export.build import build, check_parity
from edgeprune.export.inputs import BuildInputs, find_inputs
from edgeprune.export.spec import describe_build
from edgeprune.model.checkpoint import save
from edgeprune.quantize.calibrate import calibrate, write_calib
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.references import agreement_of
from edgeprune.runtime.tasks import find_task
from tests import models
from tests.export import instances
from tests.export.conftest import small
from tests.shared import made_once

OUTPUTS = ["classes", "scores", "boxes", "masks"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> BuildInputs:
    def train(folder: Path) -> None:
        card = instances.card(depth=3, stem="conv", keep=[0.6, 0.4])
        model = instances.model(card, seed=4)
        save(folder / "sparse.safetensors", card, model.state_dict())
        spec = CalibrationFrames(data=models.write_street(folder, frames=16), frames=16)
        write_calib(folder / "calib-sparse.yaml", calibrate(model, spec, "tiny"))

    return find_inputs(made_once(tmp_path_factory, "things-trained", train) / "sparse.safetensors", None, None)


@pytest.fixture(scope="session")
def things(trained: BuildInputs, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    target = small("onnx-cpu", 3)
    made = made_once(tmp_path_factory, "things", lambda folder: build(target, trained, ["fp32"], folder / "bundle"))
    return open_bundle(made / "bundle")


def test_the_bundle_says_what_it_answers(things: Bundle) -> None:
    manifest = things.manifest
    assert (manifest.task, manifest.outputs, manifest.names) == ("instance", OUTPUTS, models.STREET.names)
    assert (manifest.label_height, manifest.label_width) == (models.HEIGHT // 4, models.WIDTH // 4)  # of masks
    assert len(manifest.buckets) > 1
    for row in manifest.parity:
        assert row.label_agreement == 1 and row.max_abs < 0.01 and row.excluded == 0
        assert (row.selection_agreement is None) == (row.bucket == "full")


def test_things_are_held_to_bounds_of_their_own(things: Bundle, tmp_path: Path) -> None:
    target = small("onnx-cpu", 3)
    assert things.manifest.target.parity == target.parity_of_things != target.parity
    row = things.manifest.parity[0].model_copy(update={"precision": "int8", "label_agreement": 0.95})
    check_parity(target, [row], "instance")
    with pytest.raises(RunError, match="95.00% equal labels, at least 99.00% expected"):
        check_parity(target, [row], "semantic")
    with pytest.raises(RunError, match=r"with `(parity_of_things: \{int8: 0.84\})`$") as refused:
        check_parity(target, [row.model_copy(update={"label_agreement": 0.849})], "instance")
    written = "parity_of_things: {int8: 0.84}"
    assert written in str(refused.value)
    (tmp_path / "mine.yaml").write_text(f"name: mine\nextends: onnx-cpu\n{written}\n")
    assert load_target(str(tmp_path / "mine.yaml")).held_to("instance").int8 == 0.84


def test_references_hold_what_was_found_and_are_small(things: Bundle) -> None:
    references = read_references(things)
    found = 0
    for bucket in things.manifest.buckets:
        classes, scores, boxes, masks = (references[reference_name("fp32", bucket.name, name)] for name in OUTPUTS)
        count = classes.shape[1]
        assert scores.shape == (4, count) and boxes.shape == (4, count, 4) and masks.shape == (4, count, 16, 24)
        assert 1 <= count <= instances.QUERIES
        found += int((scores > 0.5).sum())
    assert found >= 4
    assert things.path("references.npz").stat().st_size < 1.3 * references["frames"].nbytes


@pytest.mark.parametrize("changed", ["classes", "scores", "boxes", "masks"])
def test_references_of_another_form_are_refused(things: Bundle, tmp_path: Path, changed: str) -> None:
    references = dict(read_references(things))
    name = reference_name("fp32", "full", changed)
    references[name] = (
        references[name][:, :0].astype(np.int32) if changed == "classes" else references[name][:, :, None]
    )
    np.savez(tmp_path / "references.npz", **references)  # type: ignore[arg-type]
    copy = Bundle(tmp_path, things.manifest)
    with pytest.raises(InputError, match=rf"{name} is \w+ \(4, .*expected .*copy or build the bundle again"):
        read_references(copy)


def test_an_engine_answers_as_the_references_do(things: Bundle) -> None:
    session = ENGINES["onnxruntime"].open(things, "fp32", threads=1)
    try:
        assert set(agreement_of(session, things, "fp32").values()) == {1.0}
        scores = session.scores()
        assert scores is not None and scores.shape == (models.N,)  # of tokens
    finally:
        session.close()


def test_a_stream_finds_things(things: Bundle) -> None:
    agreement = find_task("instance").agreement
    with edgeprune.open(things.folder, bucket="full") as stream:
        session = ENGINES["onnxruntime"].open(things, "fp32", ["full"], threads=1)
        for frame_HW3 in models.frames(3):
            session.start(frame_HW3)
            outputs = session.finish("full")
            result = stream.segment(frame_HW3)
            wanted = outputs["scores"] >= 0.5
            assert [each.class_id for each in result.things] == outputs["classes"][wanted].tolist()  # type: ignore[attr-defined]
            assert [each.name for each in result.things] == [  # type: ignore[attr-defined]
                models.STREET.names[each] for each in outputs["classes"][wanted]
            ]
            assert agreement(outputs, outputs).share == 1
        session.close()


def test_a_confidence_map_beside_things_is_refused(trained: BuildInputs) -> None:
    with pytest.raises(
        InputError, match="task instance has no confidence beside its classes, scores, boxes, masks; leave"
    ):
        describe_build(small("onnx-cpu", 2), replace(trained, confidence=True), ["fp32"])


def test_a_dense_reference_of_another_task_is_refused(trained: BuildInputs, tmp_path: Path) -> None:
    labels = models.card("dense", depth=3, stem="conv")
    save(tmp_path / "reference.safetensors", labels, models.model(labels).state_dict())
    with pytest.raises(InputError, match=r"reference.safetensors has task semantic, .*sparse.safetensors instance"):
        describe_build(small("onnx-cpu", 2), replace(trained, reference=tmp_path / "reference.safetensors"), ["fp32"])
