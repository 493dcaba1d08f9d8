"""NVIDIA's `trtexec` on a graph by itself: what TensorRT says without a line of ours between, and what an engine is made of."""

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeprune.base.device import workspace_mb
from edgeprune.base.errors import RunError
from edgeprune.runtime.first_hour.step import Found, NotHere, last_line

PLACES = ("/usr/src/tensorrt/bin",)  # where JetPack puts it, off PATH
# of the tools' log
FIGURES = {
    "gpu_ms": r"GPU Compute Time: .*?median = ([\d.]+) ms",
    "enqueue_ms": r"Enqueue Time: .*?median = ([\d.]+) ms",
    "build_s": r"[Ee]ngine (?:built|generation completed) in ([\d.]+) sec",
}
TIMING = ("--warmUp=500", "--duration=3", "--useSpinWait", "--noDataTransfers")


def find_trtexec() -> str:
    """Raises NotHere."""
    for found in (shutil.which("trtexec"), *(shutil.which("trtexec", path=place) for place in PLACES)):
        if found:
            return found
    raise NotHere(f"trtexec is neither on PATH nor in {PLACES[0]}; sudo apt install libnvinfer-bin")


def run_trtexec(words: Sequence[str], log: Path) -> dict[str, float]:
    """Its FIGURES, those that it prints.

    Raises:
        NotHere: the tool is not here.
        RunError: it failed; with the first error of its log.
    """
    command = [find_trtexec(), *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"{' '.join(command)}\n{done.stdout}")
    if done.returncode or "&&&& PASSED" not in done.stdout:
        errors = re.findall(r"\[E\] *(.*)", done.stdout)
        raise RunError(f"trtexec ended with {done.returncode}: {(errors or [last_line(done.stdout)])[0][:500]}")
    found = {name: re.search(pattern, done.stdout) for name, pattern in FIGURES.items()}
    return {name: float(match[1]) for name, match in found.items() if match}


def build(graph: Path, folder: Path, tf32: bool = False) -> Found:
    """A graph's engine, its layers and its time. The flags are those of `trtexec`.

    Returns:
        {`plan` (its path), FIGURES, and what `summarise` says of the layers}.
    """
    plan = plan_path(graph, folder, tf32)
    layers, partial = plan.with_suffix(".layers.json"), plan.with_suffix(".partial")
    folder.mkdir(parents=True, exist_ok=True)
    words = [
        f"--onnx={graph}", f"--saveEngine={partial}", "--stronglyTyped", f"--memPoolSize=workspace:{workspace_mb()}M",
        "--profilingVerbosity=detailed", f"--exportLayerInfo={layers}", "--useCudaGraph", *TIMING,
    ]  # fmt: skip
    figures = run_trtexec(words if tf32 else [*words, "--noTF32"], plan.with_suffix(".log"))
    partial.replace(plan)  # whole
    return {"plan": str(plan), "plan_mb": plan.stat().st_size / 1e6, **figures, "layers": read_layers(layers)}


def plan_path(graph: Path, folder: Path, tf32: bool = False) -> Path:
    return folder / f"{graph.stem}{'-tf32' if tf32 else ''}.plan"


def built(graph: Path, folder: Path, tf32: bool = False) -> Path:
    """A graph's engine: the one of an earlier step, or built now."""
    plan = plan_path(graph, folder, tf32)
    if not plan.is_file():
        build(graph, folder, tf32)
    return plan


def read_layers(path: Path) -> Found:
    """`summarise` of a file of layers; {`why`} where there is none that can be read."""
    try:
        return summarise(json.loads(path.read_text())["Layers"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {"why": f"no layers that can be read in {path.name} ({type(error).__name__}: {error})"}


def _types(layer: dict[str, Any]) -> set[str]:
    """Of its inputs: written `Half`, `FP16` or `Row major linear FP16 format`, by version."""
    said = [str(each.get("Format/Datatype", "")).lower() for each in layer.get("Inputs", [])]
    found = [re.search(r"u?int\d+|bf16|fp\d+|half|float|bool", text) for text in said]
    return {{"half": "fp16", "float": "fp32"}.get(match[0], match[0]) for match in found if match}


def summarise(layers: Sequence[Any]) -> Found:
    """What an engine's layers say of the two questions that matter.

    Fused attention is a kernel with `mha` in its name (TensorRT's compiler calls it `_gemm_mha_v2`). A matrix product in INT8
    has an INT8 tactic (`i8i8`), or INT8 weights. Names of the ONNX nodes stand in `Metadata` and are not looked at: an
    `attn` there says nothing of the kernel.

    Returns:
        {`count`, `fused_attention`, `int8_products`: names of the layers; `types`: layers by the type of their inputs; `kinds`:
        layers by their type}.
    """
    # without detailed verbosity a layer is its name
    rows = [layer if isinstance(layer, dict) else {"Name": str(layer)} for layer in layers]

    def said(layer: dict[str, Any]) -> str:
        return " ".join(str(layer.get(key, "")) for key in ("Name", "LayerType", "TacticName")).lower()

    def in_int8(layer: dict[str, Any]) -> bool:
        weights = layer.get("Weights")
        return "i8i8" in said(layer) or (isinstance(weights, dict) and weights.get("Type") == "Int8")

    return {
        "count": len(rows),
        "fused_attention": [str(layer.get("Name")) for layer in rows if re.search(r"mha", said(layer))],
        "int8_products": [str(layer.get("Name")) for layer in rows if in_int8(layer)],
        "types": dict(Counter("+".join(sorted(_types(layer))) or "unknown" for layer in rows)),
        "kinds": dict(Counter(str(layer.get("LayerType", "unknown")) for layer in rows)),
    }
