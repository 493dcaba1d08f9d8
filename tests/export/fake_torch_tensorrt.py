"""The part of `torch_tensorrt` that edgeprune calls: it turns an exported program into a plan of the fake TensorRT.

Rules it holds to (Torch-TensorRT documentation; the page in brackets):
- The whole program becomes one engine; an operator that can't be converted fails it. [Extracting a Raw TensorRT Engine]
- `arg_inputs` or `inputs`, not both. [py_api/dynamo]
- Inputs are named as the program's placeholders, outputs `output0`, `output1` ... [Naming Engine Bindings]
- With `use_explicit_typing` types are the program's; without, older versions choose their own. Newer ones do not name it, and
  types are the program's. [Autocast and Precision Management; Compiling Exported Programs]
- It casts to FP32, FP16, INT32, INT64, INT8 and BOOL, and to nothing else. [dynamo/conversion/aten_ops_converters.py,
  to_copy_dtype_validator]
- A network's UINT8 input is read by a cast alone. [TensorRT, Types and Precision]
"""

import pickle
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

KEYWORDS = {"arg_inputs", "disable_tf32", "workspace_size"}
CASTS = {torch.float32, torch.float16, torch.int32, torch.int64, torch.int8, torch.bool}


def make(tensorrt: Any, version: str = "2.14.0") -> Any:
    """The module, beside a fake `tensorrt`; from 2.14 on typing has no keyword."""
    module: Any = ModuleType("torch_tensorrt")
    module.__spec__ = ModuleSpec("torch_tensorrt", None)  # as of a real one: torch asks whether it is there
    module.__version__ = version
    module.refuses = None  # an exception to fail with
    module.converted = []  # exported programs, for tests

    def convert(exported_program: Any, inputs: Any = None, **settings: Any) -> bytes:
        if not isinstance(exported_program, torch.export.ExportedProgram):
            raise TypeError(f"expected an ExportedProgram, not {type(exported_program).__name__}")
        if unknown := set(settings) - KEYWORDS:
            raise TypeError(f"unexpected keyword argument {sorted(unknown)}")
        if (inputs is None) == (settings.get("arg_inputs") is None):
            raise AssertionError("'arg_inputs' and 'inputs' should not be used at the same time.")
        if module.refuses is not None:
            raise module.refuses
        graph = exported_program.graph
        for node in graph.find_nodes(op="placeholder"):
            value = node.meta["val"]
            if isinstance(value, torch.Tensor) and value.dtype == torch.uint8:
                for user in node.users:
                    # it takes assertions out before it converts
                    if "to" not in str(user.target) and "assert" not in str(user.target):
                        raise RuntimeError(f"UINT8 input {node.name} is read by {user.target}")
        # before its decompositions a cast is `aten.to`, which they turn into `aten._to_copy`
        for node in graph.nodes:
            cast = "to" in str(node.target).split(".") or "_to_copy" in str(node.target)
            if node.op == "call_function" and cast and node.meta["val"].dtype not in CASTS:
                raise RuntimeError(f"no converter for {node.target} to {node.meta['val'].dtype}")
        outputs = [f"output{index}" for index in range(len(exported_program.graph_signature.user_outputs))]
        names = list(exported_program.graph_signature.user_inputs)
        program = torch.onnx.export(
            exported_program, dynamo=True, opset_version=18, input_names=names, output_names=outputs, verbose=False
        )
        assert program is not None
        model = program.model_proto
        model.ir_version = 10
        module.converted.append(exported_program)
        plan = {"version": tensorrt.__version__, "model": model.SerializeToString(), "memory": 4096}
        return pickle.dumps(plan)

    def convert_2_12(
        exported_program: Any, inputs: Any = None, *, use_explicit_typing: bool = False, **rest: Any
    ) -> bytes:
        if not use_explicit_typing:
            raise RuntimeError("weakly typed: this fake has no types to give")
        return convert(exported_program, inputs, **rest)

    newer = tuple(map(int, version.split(".")[:2])) >= (2, 14)
    module.dynamo = ModuleType("torch_tensorrt.dynamo")
    module.dynamo.convert_exported_program_to_serialized_trt_engine = convert if newer else convert_2_12
    return module
