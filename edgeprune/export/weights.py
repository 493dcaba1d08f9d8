"""Weights of several graphs stored once: constants over a kilobyte go to one file per precision, equal ones together."""

import hashlib
from pathlib import Path

import onnx
from onnx.external_data_helper import set_external_data

from edgeprune.bundle import GraphSet
from edgeprune.export.graphs import GraphFamily

GRAPHS = "graphs"  # the folder in a bundle
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


def write_family(folder: Path, precision: str, family: GraphFamily) -> GraphSet:
    """Writes the graphs of one precision into a bundle, over one file of weights."""
    weights = WeightFile(folder / GRAPHS / f"{precision}.weights")
    trunk = f"{GRAPHS}/{precision}-trunk.onnx"
    tails = {name: f"{GRAPHS}/{precision}-tail-{name}.onnx" for name in family.tails}
    write_graph(family.trunk, folder / trunk, weights)
    for name, path in tails.items():
        write_graph(family.tails[name], folder / path, weights)
    weights.close()
    return GraphSet(trunk=trunk, tails=tails)


def write_single(folder: Path, name: str, proto: onnx.ModelProto) -> str:
    """Writes a graph with weights of its own into a bundle; its path there."""
    weights = WeightFile(folder / GRAPHS / f"{name}.weights")
    write_graph(proto, folder / GRAPHS / f"{name}.onnx", weights)
    weights.close()
    return f"{GRAPHS}/{name}.onnx"
