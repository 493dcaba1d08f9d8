"""Inference engines: one per file behind `ENGINES`. Adding one is a new file and a row here."""

from edgeprune.engines import onnxruntime
from edgeprune.engines.engine import Engine, Graph, Session

__all__ = ["ENGINES", "Engine", "Graph", "Session"]

# Each is imported without the library behind it, which is loaded when a graph is opened.
ENGINES: dict[str, Engine] = {"onnxruntime": onnxruntime}
