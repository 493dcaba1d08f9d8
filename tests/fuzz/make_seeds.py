"""Makes the seed corpus anew: `python -m tests.fuzz.make_seeds`. A few kilobytes each, all of our own making."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from edgeprune.base.reading import ROOT, shipped
from tests import bundles
from tests.fuzz.targets import SEEDS

SIDE = 24
VIDEOS = {"mpeg4.mp4": "mpeg4", "mjpeg.avi": "mjpeg", "mpeg4.mkv": "mpeg4", "mpeg2.ts": "mpeg2video"}
IMAGES = {"rgb.png": "RGB", "grey.png": "L", "palette.png": "P", "rgb.jpg": "RGB", "rgb.webp": "RGB", "deep.tiff": "I;16",
          "rgb.bmp": "RGB", "rgb.ppm": "RGB", "two.gif": "P"}  # fmt: skip
URIS = """synthetic://street?seed=1
synthetic://street?seed=3&frames=2&fps=5&ahead=1
synthetic://street?height=64&width=96
rtsp://user:secret@camera.example:554/stream?user=a&password=b
csi://0?width=1280&height=720&fps=30
/dev/video0
0
frames/one.png
C:\\frames
file:///tmp/x.mp4
"""
CONFIG = """bundle: bundles/street
camera: rtsp://user:secret@camera.example:554/stream
precision: int8
budget: 33ms,10W
give_up: 5m
realtime: false
view: 8080
record: out/rows.csv
frames: 100
idle: 2.5
"""
CAMERAS = """\
bundle: bundles/street
cameras:
  front: rtsp://user:password@192.168.1.20/stream1
  rear: 0
  yard: clips/yard.mp4
budget: 33ms,15fps
record: rows/
out: overlay.mp4
give_up: 2h
"""
PLAN = """name: two
recipe: street-short
dense: zoo:street-tiny/reference
phases: {policy: [sparse], dense: [dense]}
frames: 640
seeds: [0]
score: {data: street, split: val}
target: onnx-cpu
precisions: [fp32]
engines: [onnxruntime]
rounds: 2
controls: false
rows:
  dense: {}
  svit: {policy: {name: svit, options: {keep: [0.48, 0.33, 0.20]}}}
"""


def picture(shift: int = 0) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.stack([rows * 10, columns * 10, (rows + columns + shift) * 5 % 256], -1).astype(np.uint8)


def make_images(folder: Path) -> None:
    for name, mode in IMAGES.items():
        image = Image.fromarray(picture())
        if mode == "I;16":
            image = Image.fromarray(picture()[..., 0].astype(np.uint16) * 250)
        elif mode != "RGB":
            image = image.convert(mode)
        if name == "two.gif":
            image.save(folder / name, save_all=True, append_images=[Image.fromarray(picture(9)).convert("P")])
        else:
            image.save(folder / name)


def make_videos(folder: Path) -> None:
    import av

    for name, codec in VIDEOS.items():
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.height = stream.width = 32
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for index in range(4):
                image_HW3 = np.ascontiguousarray(np.tile(picture(index), (2, 2, 1))[:32, :32])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image_HW3, "rgb24")))
            container.mux(stream.encode(None))


def make_yaml(folder: Path) -> None:
    for kind, path in {
        "data-folders": ROOT / "data" / "sets" / "camvid.yaml",
        "data-street": ROOT / "data" / "sets" / "street.yaml",
        "recipe-short": ROOT / "train" / "recipes" / "street-short.yaml",
        "target-cpu": shipped("targets") / "onnx-cpu.yaml",
        "target-orin": shipped("targets") / "jetson-orin.yaml",
    }.items():
        shutil.copyfile(path, folder / f"{kind}.yaml")
    (folder / "plan-two.yaml").write_text(PLAN)
    calib = yaml.safe_load((shipped("calib") / "street-tiny.yaml").read_text())
    calib["frames"] = calib["frames"][:4]
    calib["occupancy"] = {key: rows[:4] for key, rows in calib["occupancy"].items()}
    (folder / "calib-street.yaml").write_text(
        yaml.safe_dump(calib, sort_keys=False, default_flow_style=None, width=120)
    )


def make_config(folder: Path) -> None:
    (folder / "run.yaml").write_text(CONFIG)
    (folder / "cameras.yaml").write_text(CAMERAS)


def make_checkpoints(folder: Path) -> None:
    """A card with too few tensors: the header is what is mutated. A whole model has megabytes; `targets.py` makes one."""
    names = ["road", "sky"]
    for policy in ("dense", "cts-svit"):
        card = {
            "name": "seed", "model": {"size": "tiny", "depth": 2, "height": 64, "width": 96, "classes": 2},
            "policy": {"name": policy, "options": {}}, "quantized": False, "names": names,
            "palette": [[0, 0, 0], [9, 9, 9]], "provenance": {"seed": 0, "recipe": {"lr": 0.001, "start": None}},
        }  # fmt: skip
        tensors = {f"blocks.{index}.norm1.weight": torch.ones(2) for index in range(2)} | {
            "pos_embed": torch.zeros(1, 24, 2)
        }
        save_file(tensors, folder / f"{policy}.safetensors", metadata={"edgeprune": json.dumps(card)})


def make_graphs(folder: Path) -> None:
    bundles.write_trunk(folder / "trunk.onnx")
    bundles.write_tail(folder / "tail.onnx", 1)
    bundles.write_single(folder / "single.onnx")
    model = onnx.load(folder / "single.onnx")
    onnx.save(model, folder / "outside.onnx", save_as_external_data=True, location="outside.weights", size_threshold=0)
    (folder / "outside.weights").unlink()


def main() -> None:
    """Writes every folder anew."""
    kinds = {
        "image": make_images,
        "video": make_videos,
        "yaml": make_yaml,
        "config": make_config,
        "checkpoint": make_checkpoints,
        "onnx": make_graphs,
    }
    for name, make in kinds.items():
        shutil.rmtree(SEEDS / name, ignore_errors=True)
        (SEEDS / name).mkdir(parents=True)
        make(SEEDS / name)
    (SEEDS / "uri").mkdir(exist_ok=True)
    for index, uri in enumerate(URIS.splitlines()):
        (SEEDS / "uri" / f"{index}.txt").write_text(uri)


if __name__ == "__main__":
    main()
