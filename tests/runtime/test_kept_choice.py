"""What two processes keep at a time in the cache of a device."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edgeprune.base.device import cache_folder
from edgeprune.bundle import Bundle, open_bundle, write_manifest
from edgeprune.runtime import kept_choice
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.precision_choice import Choice
from tests import bundles


def made(folder: Path) -> Bundle:
    bundle = bundles.write_bundle(folder, precisions=("fp32",))
    write_manifest(bundle.folder, bundle.manifest.model_copy(update={"name": folder.name}))
    return open_bundle(folder)


def test_choices_that_are_kept_at_a_time_are_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    read = kept_choice._read

    def slowly() -> dict[str, Any]:
        content = read()
        time.sleep(0.2)
        return content

    monkeypatch.setattr(kept_choice, "_read", slowly)
    choice = Choice("fp32", {"full": "fp32"}, [])
    writers = [
        threading.Thread(target=kept_choice.keep_choice, args=(bundle, ENGINES["onnxruntime"], [], choice))
        for bundle in (made(tmp_path / "one"), made(tmp_path / "two"))
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert len(json.loads((cache_folder() / kept_choice.CHOICES).read_text())) == 2
    assert sorted(path.name for path in cache_folder().iterdir()) == [kept_choice.LOCK, kept_choice.CHOICES]
