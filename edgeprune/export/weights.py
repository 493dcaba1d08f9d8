"""Weights of several graphs stored once: constants over a kilobyte go to one file per precision, equal ones together."""

import hashlib
from pathlib import Path

import onnx
from onnx.external_data_helper import set_external_data

SMALLEST = 1024  # bytes; smaller constants stay in the graph
ALIGNMENT = 64  # bytes; a cache line


class WeightFile:
    """An external-data file that graphs beside it refer to (ONNX refuses locations outside the graph's folder)."""

    def __init__(self, path: Path):
        self.path = path
        self.places: dict[str, tuple[int, int]] = {}
        self.file = path.open("wb")

    def store(self, proto: onnx.ModelProto) -> None:
        """Moves the graph's large constants into the file, each content once."""
        for tensor in proto.graph.initializer:
            content = tensor.raw_data
            if len(content) < SMALLEST:
                continue
            key = hashlib.sha256(content).hexdigest()
            if key not in self.places:
                self.file.write(b"\0" * (-self.file.tell() % ALIGNMENT))
                self.places[key] = (self.file.tell(), len(content))
                self.file.write(content)
            offset, length = self.places[key]
            set_external_data(tensor, self.path.name, offset, length)
            tensor.ClearField("raw_data")

    def close(self) -> None:
        self.file.close()


def write_graph(proto: onnx.ModelProto, path: Path, weights: WeightFile) -> None:
    """Saves a graph whose large constants live in `weights`; the proto given stays whole."""
    slim = onnx.ModelProto()
    slim.CopyFrom(proto)
    weights.store(slim)
    path.write_bytes(slim.SerializeToString())
