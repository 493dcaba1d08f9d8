"""Opens a bundle: reads the manifest, checks it, and hashes every file that any engine will read."""

import os
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel

from edgeprune.base.errors import InputError
from edgeprune.base.files import sha256
from edgeprune.base.inputs import DATA_BYTES, look_at, read_text
from edgeprune.base.reading import parse
from edgeprune.base.strict_json import parse_json
from edgeprune.bundle.checks import check_manifest
from edgeprune.bundle.manifest import MANIFEST, PREPROCESS_BEFORE, Bundle, Manifest
from edgeprune.bundle.onnx_files import external_files
from edgeprune.bundle.runtime_spec import RuntimeSpec
from edgeprune.bundle.schema import SCHEMA

RETIRED = ("one_tail", "accuracy", "lint")  # keys of older manifests that no run ever took anything from
ALL_BYTES = 2 * DATA_BYTES  # of a bundle; a ViT-L in three precisions has half of it


def open_bundle(folder: Path) -> Bundle:
    """Reads and verifies a bundle.

    Raises:
        InputError: it isn't there, is truncated, was changed, contradicts itself, reaches out of its folder, or is of a
            newer schema.
    """
    led_to = Path(os.path.realpath(folder))
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    return Bundle(folder, manifest, led_to)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle, whose parts agree; its files are not looked at.

    Raises:
        InputError: as `open_bundle`.
    """
    path = folder / MANIFEST
    if not os.path.lexists(path):
        there = f"{folder} has no {MANIFEST}" if os.path.isdir(folder) else f"{folder} is not there"
        raise InputError(
            f"no bundle: {there}; name the folder that `edgeprune build --target TARGET` wrote, such as "
            "out/bundles/street-tiny-onnx-cpu"
        )
    where = f"bundle {folder}"
    content = parse_json(read_text(path, f"{where}:"), f"{where}: {MANIFEST}", "copy or build the bundle again")
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version is not None and type(version) is not int:  # before its keys are judged by the wrong schema
        raise InputError(f"{where}: schema_version: input should be a valid integer, found {version!r:.80}")
    if isinstance(version, int) and version > SCHEMA:
        raise InputError(
            f"{where} has schema {version}, this edgeprune reads up to {SCHEMA}; upgrade edgeprune or build it again"
        )
    if isinstance(content, dict):
        if "target" in content:
            content["target"] = _known(RuntimeSpec, content["target"])
        if isinstance(version, int):
            _bring_up_to_date(content, version)
    manifest = parse(Manifest, content, where)
    check_manifest(manifest, where)
    return manifest


def not_its_own(folder: Path) -> list[str] | None:
    """The files of a bundle's folder that its manifest, of whatever schema, does not name: no build wrote them. None where it
    is no bundle's. Hidden ones, which file managers and editors leave, are not told."""
    try:
        content = parse_json(read_text(folder / MANIFEST, "manifest"), MANIFEST, "")
    except InputError:
        return None
    named = content.get("files") if isinstance(content, dict) and "schema_version" in content else None
    if not isinstance(named, dict):
        return None
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    own = {path.relative_to(folder).as_posix() for path in found if not path.name.startswith(".")}
    return sorted(own - {MANIFEST, *named})


def _bring_up_to_date(content: dict[str, Any], version: int) -> None:
    """Makes the content of a manifest of an older schema one of this schema."""
    if version < 5:
        for key in RETIRED:
            content.pop(key, None)
    if version < 4:
        content.setdefault("preprocess", PREPROCESS_BEFORE)


def _known(spec: type[BaseModel], content: Any) -> Any:
    """What of a mapping, and of the mappings in it, the model has a key for."""
    if not isinstance(content, dict):
        return content
    kinds = {key: field.annotation for key, field in spec.model_fields.items() if key in content}
    return {
        key: _known(kind, content[key]) if isinstance(kind, type) and issubclass(kind, BaseModel) else content[key]
        for key, kind in kinds.items()
    }


def check_files(folder: Path, manifest: Manifest) -> None:
    """Sizes first, then hashes, then what graphs read beside themselves.

    Raises:
        InputError: a file is missing, no regular file, a link that leads out, too large, changed, or has no hash.
    """
    where, root = f"bundle {folder}", os.path.realpath(folder)
    total = 0
    for name in manifest.files:
        file = folder / name
        if not os.path.lexists(file):
            raise InputError(f"{where} lacks {name}; copy or build the bundle again")
        if os.path.commonpath((root, os.path.realpath(file))) != root:
            raise InputError(f"{where}: {name} is a link that leads out of the bundle; copy the bundle with its files")
        size = look_at(file, f"{where}:")
        total += size
        if size != manifest.sizes.get(name, size) or total > ALL_BYTES:
            raise _changed(where, name)
    for name, expected in manifest.files.items():
        if sha256(folder / name) != expected:
            raise _changed(where, name)
    for name in manifest.files:
        if name.endswith(".onnx"):
            for beside in sorted(external_files(folder / name)):
                if str(PurePosixPath(name).parent / beside) not in manifest.files:
                    raise InputError(
                        f"{where}: {name} reads {beside!r}, which has no hash in {MANIFEST}; build the bundle again"
                    )


def _changed(where: str, name: str) -> InputError:
    return InputError(f"{where}: {name} does not match its hash, it was changed or cut off; copy or build it again")
