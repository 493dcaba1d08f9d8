"""Bad input gets one actionable line and exit code 2; nothing is lost, nothing half-written keeps its final name."""

import csv
import json
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import bundles
from tests.cli.conftest import Said, Type
from tests.cli.test_verbs import write_data_set

av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")


def assert_one_line(said: Said, *words: str, code: int = 2) -> None:
    lines = [line for line in said.err.splitlines() if line.startswith("edgeprune: ")]
    assert said.code == code, said
    assert len(lines) == 1, said
    assert "Traceback" not in said.err
    for word in words:
        assert word in lines[0], lines[0]


def test_no_bundle_yet(edgeprune: Type) -> None:
    assert_one_line(edgeprune("run", "--frames", 1), "no bundle", "edgeprune build --target onnx-cpu")


def test_truncated_bundle(edgeprune: Type, tiny: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "cut")
    graph = copy / "graphs" / "int8-trunk.onnx"
    graph.write_bytes(graph.read_bytes()[:100])
    assert_one_line(edgeprune("run", "--bundle", copy, "--frames", 1), "int8-trunk.onnx", "does not match its hash")


def test_tampered_manifest(edgeprune: Type, tiny: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "tampered")
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])
    assert_one_line(edgeprune("inspect", copy), "manifest.json is damaged")


def test_bundle_of_a_newer_schema(edgeprune: Type, tiny: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "newer")
    content = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(content | {"schema_version": 99}))
    assert_one_line(edgeprune("inspect", copy), "schema 99", "upgrade edgeprune")


def test_sizes_that_are_none(edgeprune: Type) -> None:
    assert_one_line(edgeprune("build", "--size", "384*512"), "384*512", "write it as 384x512")
    assert_one_line(edgeprune("build", "--size", "0x512"), "0x512", "write it as 384x512")


def test_baselines_that_cannot_be_one(edgeprune: Type, tiny: Path, tmp_path: Path) -> None:
    bench = ("bench", "--bundle", tiny, "--rounds", 1, "--frames", 1)
    dense = tiny / "graphs" / "dense.onnx"
    assert_one_line(edgeprune(*bench, "--baseline", dense), "a row 'dense' is there already", "another name")
    other = shutil.copy(dense, tmp_path / "theirs.onnx")
    (tmp_path / "b").mkdir()
    same = shutil.copy(other, tmp_path / "b")
    assert_one_line(edgeprune(*bench, "--baseline", other, "--baseline", same), "a row 'theirs' is there already")
    assert_one_line(edgeprune(*bench, "--baseline", tmp_path / "gone.onnx"), "gone.onnx", "not there")
    trunk = shutil.copy(tiny / "graphs" / "fp32-trunk.onnx", tmp_path / "trunk.onnx")
    assert_one_line(edgeprune(*bench, "--baseline", trunk), "trunk.onnx", "outputs tokens, skip0, scores, count")


def test_camera_that_is_not_there(edgeprune: Type, tiny: Path) -> None:
    assert_one_line(edgeprune("run", "--bundle", tiny, "--camera", "/dev/video97", "--frames", 1), "/dev/video97")
    assert_one_line(edgeprune("run", "--bundle", tiny, "--camera", "nowhere.mp4", "--frames", 1), "nowhere.mp4")


def test_mistyped_camera_option(edgeprune: Type, tiny: Path) -> None:
    said = edgeprune("run", "--bundle", tiny, "--camera", "synthetic://street?sede=1", "--frames", 1)
    assert_one_line(said, "sede", "seed")


def test_corrupt_image(edgeprune: Type, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"not an image")
    assert_one_line(edgeprune("run", "--bundle", tiny, "--camera", folder), "0.png")


def test_video_cut_off_mid_frame(edgeprune: Type, tiny: Path) -> None:
    with av.open("whole.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = bundles.W, bundles.H, "yuv420p"
        for index in range(40):
            frame = av.VideoFrame.from_ndarray(bundles.frame_with(index % 9, seed=index), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    # the index must come first, or a cut file has none
    with av.open("whole.mp4") as source, av.open("fast.mp4", "w", options={"movflags": "faststart"}) as target:
        copied = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    content = Path("fast.mp4").read_bytes()
    Path("cut.mp4").write_bytes(content[: len(content) * 3 // 4])
    said = edgeprune("run", "--bundle", tiny, "--camera", "cut.mp4", "--record", "rows.csv", "--json")
    summary = json.loads(said.out)
    assert_one_line(said, "cut.mp4", code=3)
    assert 10 < summary["frames"] < 40
    assert len(Path(summary["record"]).read_text().splitlines()) == summary["frames"] + 1


def test_unwritable_output_folder(edgeprune: Type, tiny: Path) -> None:
    Path("file").touch()
    for option, name in (("--record", "file/rows.csv"), ("--out", "file/overlay.mp4")):
        assert_one_line(edgeprune("run", "--bundle", tiny, "--frames", 1, option, name), "file")


def test_full_disk_while_recording(edgeprune: Type, tiny: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))  # stands for a disk with 5 kB left
    try:
        said = edgeprune("run", "--bundle", tiny, "--frames", 200, "--record", "rows.csv", "--meter", "none")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_one_line(said, "rows.csv", code=3)
    *_, failed, kept = said.out.splitlines()
    assert failed == "failed   cannot write on to rows.csv (File too large)" and kept == "kept     rows.partial.csv"
    assert not Path("rows.csv").exists()
    with Path("rows.partial.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert 5 < len(rows) < 200
    assert all(row["bucket"] for row in rows)


def test_unknown_names_list_the_choices(edgeprune: Type, tiny: Path) -> None:
    assert_one_line(edgeprune("build", "--target", "onx-cpu"), "onnx-cpu")
    assert_one_line(edgeprune("eval", "--bundle", tiny, "--data", "camvd"), "camvid")
    assert_one_line(edgeprune("run", "--bundle", tiny, "--bucket", "hlaf", "--frames", 1), "half")
    assert_one_line(edgeprune("run", "--bundle", tiny, "--chooser", "in-fram", "--frames", 1), "in-frame")
    assert_one_line(edgeprune("train", "street-shrt"), "street-short")


def test_missing_checkpoint(edgeprune: Type) -> None:
    assert_one_line(edgeprune("build", "--checkpoint", "nothing.safetensors"), "nothing.safetensors", "not there")


def test_truncated_checkpoint(edgeprune: Type) -> None:
    Path("cut.safetensors").write_bytes(b"\x40\x00\x00\x00\x00\x00\x00\x00{")
    assert_one_line(edgeprune("build", "--checkpoint", "cut.safetensors"), "cut.safetensors", "not a whole")


def test_label_out_of_range(edgeprune: Type, tiny: Path, tmp_path: Path) -> None:
    data = write_data_set(tmp_path)
    label = np.full((bundles.H, bundles.W), 77, np.uint8)
    Image.fromarray(label).save(tmp_path / "labels" / "2.png")
    assert_one_line(edgeprune("data", "lint", data, "--split", "val"), "77", "2.png")
    assert_one_line(edgeprune("eval", "--bundle", tiny, "--data", data), "77")


def test_yaml_with_an_unknown_key_and_a_mistyped_value(edgeprune: Type, tmp_path: Path) -> None:
    data = write_data_set(tmp_path)
    content = data.read_text()
    data.write_text(content.replace("names:", "nmaes:"))
    assert_one_line(edgeprune("data", "lint", data), "nmaes", "names")
    data.write_text(content.replace("ignore_index: 255", "ignore_index: many"))
    assert_one_line(edgeprune("data", "lint", data), "ignore_index", "many")
    data.write_text("name: [")
    assert_one_line(edgeprune("data", "lint", data), "not valid YAML")


def test_an_option_without_its_value_leads_to_its_own_help(edgeprune: Type) -> None:
    said = edgeprune("data", "init", ".", "--split-by-time")
    assert said.err.startswith("edgeprune data init: ") and said.err.endswith("; see edgeprune data init --help\n")


def test_recipe_with_a_mistyped_key(edgeprune: Type) -> None:
    said = edgeprune("train", "street-short", "--set", "phases.dense.frmes=3")
    assert_one_line(said, "frmes", "did you mean 'frames'")


def test_outputs_of_the_wrong_kind_are_refused_before_anything_is_measured(
    edgeprune: Type, tiny: Path, tmp_path: Path
) -> None:
    """What is found out when the results are written costs them."""
    data = write_data_set(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    measured = ("--bundle", tiny, "--data", data)
    assert_one_line(edgeprune("eval", *measured, "--out", "folder"), "folder is a folder; name a file")
    assert_one_line(
        edgeprune("eval", *measured, "--out", "images/0.png"), "images/0.png is among the files that are read"
    )
    assert_one_line(edgeprune("eval", *measured, "--out", data), "tiny.yaml is what is read")
    said = edgeprune("eval", *measured, "--out", f"{'x' * 254}.csv")
    assert_one_line(said, "File name too long")
    assert "frames" not in said.err
    for verb in (("bench", *measured), ("scaling", "--bundle", tiny), ("baselines", "--data", data)):
        assert_one_line(edgeprune(*verb, "--out", "file"), "file is a file; name a folder")
    assert_one_line(
        edgeprune("bench", "--bundle", tiny, "--data", "gone.yaml", "--out", "folder"), "gone.yaml", "not there"
    )
    assert list(Path("folder").iterdir()) == [] and Path("file").read_bytes() == b""


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can't be refused by permissions; others are tested above")
def test_out_that_is_a_file(edgeprune: Type) -> None:
    Path("out").touch()
    assert_one_line(edgeprune("train", "street-short"), "out")
