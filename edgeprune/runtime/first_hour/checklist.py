"""The check list, in the order that finds out most: what would make the rest worthless comes first."""

from functools import partial

from edgeprune.bundle import Bundle
from edgeprune.runtime.compiling import graphs_of, single_graphs
from edgeprune.runtime.first_hour import on_board, on_engine, trtexec
from edgeprune.runtime.first_hour.step import Found, Job, Step


def _trtexec(graph: str, job: Job) -> Found:
    return trtexec.build(job.bundle.path(graph), job.folder / "trtexec")


def checklist(bundle: Bundle | None) -> list[Step]:
    """Of a bundle: as many steps as it has graphs and precisions. None: of a bundle as a Jetson's target makes it, with one
    step for all graphs; to read, not to do."""
    floating, quantizing, least, full, graphs = "fp16", ["int8", "int8-mlp"], "", "", ["EACH GRAPH"]
    if bundle is not None:
        buckets = bundle.manifest.buckets
        floating, quantizing = Job(bundle, bundle.folder, "", {}).precisions()
        least, full = buckets[0].name, buckets[-1].name
        graphs = [str(path.relative_to(bundle.folder)) for path in (*graphs_of(bundle), *single_graphs(bundle))]
    steps = [Step("doctor", "What is here?", 2, on_board.doctor)]
    question = "Does TensorRT build it without us? Fused attention? INT8 products?"
    steps += [Step(f"trtexec {graph}", question, 20, partial(_trtexec, graph)) for graph in graphs]
    steps += [
        Step("failure", "Does a failure carry its reason?", 5, on_engine.provoke_failure),
        Step(f"trunk {floating}", "Do we compile the trunk?", 20, on_engine.compile_trunk),
        Step(f"bucket {floating}", "One bucket?", 20, on_engine.compile_bucket),
    ]
    for each in quantizing:
        step = partial(on_engine.compile_quantized, precision=each)
        steps.append(Step(f"trunk and bucket {each}", f"And in {each.upper()}?", 40, step))
    steps += [
        Step("labels, TF32 off", "Labels as the references?", 60, partial(on_engine.labels, tf32=False)),
        Step("labels, TF32 on", "And with TensorRT's default?", 60, partial(on_engine.labels, tf32=True)),
        Step("latency dense", "Milliseconds of dense?", 30, on_engine.latency_of_dense),
        Step("latency full", "Of all tokens?", 40, partial(on_engine.latency, precision=floating, bucket=full)),
        Step("latency bucket", "Of a bucket?", 40, partial(on_engine.latency, precision=floating, bucket=least)),
    ]
    for each in quantizing:
        step = partial(on_engine.latency, precision=each, bucket=least)
        steps.append(Step(f"latency bucket {each}", f"Of that bucket in {each.upper()}?", 40, step))
    return [
        *steps,
        Step("512 against 513 tokens", "Do buckets in eights save a tile?", 20, on_board.one_token_more),
        Step("CUDA graph against plain", "What does launching kernel by kernel cost?", 20, on_board.cuda_graph),
        Step("memory", "What is lost over 50 openings?", 40, on_engine.memory),
        Step("compile", "Which precision for each bucket?", 240, on_board.choose),
        Step("compile --again", "And after a change of power mode?", 240, on_board.choose_again),
        Step("CSI", "Does the camera run, and who scales?", 10, on_board.camera),
        Step("power", "Does our meter say what tegrastats says?", 5, on_board.power),
    ]
