"""What is taken when an option is left out: the zoo's model, and the bundle that `build` makes of it."""

from pathlib import Path

from edgeprune.base.errors import InputError
from edgeprune.base.reading import ROOT
from edgeprune.bundle import Bundle, open_bundle

MODEL = "street-tiny"
TARGET = "onnx-cpu"
DEVICE = "jetson-orin"  # the target whose bundle goes to a device
CALIBS = Path("out/calib")
BUNDLES = Path("out/bundles")
DEMO_BUNDLE = Path("out/demo/bundle")  # `demo` builds its own, among its files


def default_checkpoint() -> Path:
    """The zoo's default model."""
    return ROOT / "zoo" / MODEL / "qat.safetensors"


def bundle_folder(name: str, target: str) -> Path:
    """Where `build` puts a bundle unless told."""
    return BUNDLES / f"{name}-{target}"


def calib_path(checkpoint: Path, model: str, of_camera: bool) -> Path:
    """Where `calibrate` writes unless told: beside the checkpoint, where `build` finds it; of a camera among outputs, as the
    calibration on frames with labels stays. Of the zoo, which is installed, among outputs too: it has several checkpoints of a
    model.

    Args:
        model: its name.
        of_camera: whether the frames are a camera's.
    """
    if of_camera:
        return CALIBS / f"{model}.yaml"
    if (ROOT / "zoo").resolve() in checkpoint.resolve().parents:
        return CALIBS / f"{model}-{checkpoint.stem}.yaml"
    return checkpoint.with_name(f"calib-{checkpoint.stem}.yaml")


def open_default(bundle: Path | None, target: str = TARGET) -> Bundle:
    """The bundle that was named, else the one that `build --target` makes by default; the demo's is named in the refusal, not
    taken.

    Raises:
        InputError: it isn't there, or is damaged.
    """
    if bundle is None:
        bundle = bundle_folder(MODEL, target)
        if not bundle.is_dir():
            if target == TARGET and DEMO_BUNDLE.is_dir():
                raise InputError(f"no bundle at {bundle}, but the demo has built one; type --bundle {DEMO_BUNDLE}")
            raise InputError(f"no bundle at {bundle}; run `edgeprune build --target {target}` or give --bundle")
    return open_bundle(bundle)
