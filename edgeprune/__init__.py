"""edgeprune: pruned, INT8 vision transformers for segmentation on camera streams.

    with edgeprune.open("out/bundles/street-tiny-onnx-cpu", camera=0) as stream:
        for result in stream:
            result.labels, result.overlay(), result.latency_ms  # and result.things of a bundle that finds things

    edgeprune.train("my-set", "hub:timm/vit_small_patch14_dinov2.lvd142m")

What is used is loaded when it is used: `import edgeprune` alone loads nothing, `edgeprune.open` neither torch nor nncf.
"""

import logging
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgeprune.base.errors import EdgepruneError, InputError, RunError
from edgeprune.base.version import __version__

if TYPE_CHECKING:
    from edgeprune.runtime.opening import open

__all__ = ["EdgepruneError", "InputError", "RunError", "__version__", "open", "train"]

# Where nobody has decided it, ONNX Runtime's wheels (1.29 and later) tell Microsoft of each session, and NNCF tells Google
# Analytics when it is used; both look at these when they are loaded.
for _name in ("ORT_DISABLE_TELEMETRY", "NNCF_CI"):
    os.environ.setdefault(_name, "1")

logging.getLogger(__name__).addHandler(logging.NullHandler())  # a library is silent until it is listened to


def __getattr__(name: str) -> Any:
    if name == "train":
        return import_module("edgeprune.train")  # which can be called
    if name != "open":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edgeprune.runtime.opening import open as open_stream

    return open_stream
