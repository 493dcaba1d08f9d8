"""The street as a data set, and the cache of its scenes."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from edgeprune import street as synthetic
from edgeprune.base.errors import InputError, RunError
from edgeprune.data import open_split, street
from edgeprune.data.datasets import DataSet, load_data_set
from edgeprune.data.samples import Sample
from edgeprune.data.street import CachedStreet, StreetSamples

HEIGHT, WIDTH = 32, 48
RECORD = 4 * HEIGHT * WIDTH + 4


class Renderer:
    """Stands in for the renderer: scenes of noise, and a list of the seeds that were asked for."""

    def __init__(self, folder: Path) -> None:
        (folder / "renderer").mkdir()
        self.__file__ = str(folder / "renderer" / "__init__.py")
        Path(self.__file__).write_text("version = 1")
        self.rendered: list[int] = []
        self.populations: list[str] = []

    def scene(self, seed: int, height: int, width: int, population: str = "street") -> tuple[np.ndarray, np.ndarray]:
        self.rendered.append(seed)
        self.populations.append(population)
        random = np.random.default_rng(seed)
        return (
            random.integers(0, 256, (height, width, 3), np.uint8),
            random.integers(0, 12, (height, width), np.uint8),
        )


@pytest.fixture
def renderer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Renderer:
    fake = Renderer(tmp_path)
    monkeypatch.setattr(street, "synthetic", fake)
    return fake


def same(one: Sample, other: Sample) -> bool:
    return (
        one.name == other.name
        and np.array_equal(one.image_HW3, other.image_HW3)
        and np.array_equal(one.label_HW, other.label_HW)
    )


def test_a_population_is_rendered_and_cached_apart(renderer: Renderer, tmp_path: Path) -> None:
    plain = StreetSamples(5, 2, HEIGHT, WIDTH)
    camvid = StreetSamples(5, 2, HEIGHT, WIDTH, "camvid")
    stored = [CachedStreet(each, tmp_path / "cache") for each in (plain, camvid, camvid.some([0]))]
    assert stored[0].path.name.startswith("street-32x48-seed5-") and stored[1].path == stored[2].path != stored[0].path
    assert same(stored[1][0], stored[2][0]) and same(stored[0][0], plain[0])
    assert renderer.populations == ["camvid", "street", "street"]


def test_scenes_count_from_the_seed(renderer: Renderer) -> None:
    samples = StreetSamples(seed=70, frames=3, height=HEIGHT, width=WIDTH)
    assert samples.names == ["street-70", "street-71", "street-72"]
    assert [sample.name for sample in samples] == samples.names
    assert renderer.rendered == [70, 71, 72]
    assert same(samples[2], Sample("street-72", *renderer.scene(72, HEIGHT, WIDTH)))
    with pytest.raises(IndexError):
        samples[3]


def test_cached_scenes_are_not_rendered_again(renderer: Renderer, tmp_path: Path) -> None:
    samples = StreetSamples(5, 6, HEIGHT, WIDTH)
    before = CachedStreet(samples, tmp_path / "cache")
    assert [before[index].name for index in (2, 3)] == ["street-7", "street-8"]
    assert renderer.rendered == [7, 8]
    renderer.rendered.clear()
    cached = CachedStreet(samples, tmp_path / "cache")
    assert len(cached) == 6 and cached.names == samples.names
    first = list(cached)
    assert renderer.rendered == [5, 6, 9, 10]
    renderer.rendered.clear()
    again = list(pickle.loads(pickle.dumps(cached)))  # as a worker process gets it
    assert renderer.rendered == []
    assert all(map(same, first, again))
    assert all(map(same, first, samples))
    again[0].image_HW3[0, 0] = 0  # a sample belongs to whoever asked for it


def test_cache_serves_a_split_of_more_frames(renderer: Renderer, tmp_path: Path) -> None:
    list(CachedStreet(StreetSamples(5, 2, HEIGHT, WIDTH), tmp_path))
    renderer.rendered.clear()
    list(CachedStreet(StreetSamples(5, 4, HEIGHT, WIDTH), tmp_path))
    assert renderer.rendered == [7, 8]


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_half_written_scene_is_rendered_again(renderer: Renderer, tmp_path: Path, damage: str) -> None:
    samples = StreetSamples(5, 3, HEIGHT, WIDTH)
    cached = CachedStreet(samples, tmp_path)
    list(cached)
    content = bytearray(cached.path.read_bytes())
    assert len(content) == 3 * RECORD
    if damage == "cut":
        content = content[: 2 * RECORD + 100]
    else:
        content[2 * RECORD + 100 : 2 * RECORD + 200] = bytes(100)
    cached.path.write_bytes(content)
    renderer.rendered.clear()
    assert same(cached[2], samples[2])
    assert renderer.rendered == [7, 7]  # by the cache, by the comparison
    assert same(cached[2], cached[2]) and cached[1].name == "street-6"
    assert renderer.rendered == [7, 7]


def test_other_seed_size_or_renderer_has_its_own_file(renderer: Renderer, tmp_path: Path) -> None:
    paths = [
        CachedStreet(StreetSamples(*key), tmp_path).path for key in [(5, 3, 32, 48), (6, 3, 32, 48), (5, 3, 48, 32)]
    ]
    Path(renderer.__file__).write_text("version = 2")
    paths.append(CachedStreet(StreetSamples(5, 3, 32, 48), tmp_path).path)
    assert len(set(paths)) == 4


def test_full_disk_and_unwritable_folder(renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> int:
        raise OSError(28, "No space left on device")

    cached = CachedStreet(StreetSamples(5, 3, HEIGHT, WIDTH), tmp_path)
    monkeypatch.setattr(street.os, "pwrite", no_space)
    with pytest.raises(RunError, match="no space left to cache street scenes"):
        cached[0]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write the cache of street scenes"):
        CachedStreet(StreetSamples(5, 3, HEIGHT, WIDTH), tmp_path / "file")


def test_split_of_the_real_street() -> None:
    split = {"seed": 3, "frames": 2, "height": 96, "width": 128}
    data_set = DataSet.model_validate(
        {
            "name": "street",
            "train": split,
            "val": split,
            "names": list(synthetic.CLASSES),
            "palette": synthetic.PALETTE.tolist(),
            "ignore_index": synthetic.IGNORE,
        }
    )
    samples = open_split(data_set, "train")
    sample = samples[1]
    assert isinstance(samples, StreetSamples) and samples.origin(1) == "the synthetic street's scene 4"
    assert sample.image_HW3.shape == (96, 128, 3) and sample.image_HW3.dtype == np.uint8
    assert sample.label_HW.shape == (96, 128) and sample.label_HW.dtype == np.uint8
    assert sample.label_HW.max() <= synthetic.IGNORE
    with pytest.raises(InputError, match="rendered and has no file stems to include or exclude"):
        open_split(data_set, "train", exclude=["a*"])


def test_shipped_sets_agree_with_the_renderer() -> None:
    for name in ("street", "camvid"):
        data_set = load_data_set(name)
        assert data_set.names == list(synthetic.CLASSES)
        assert np.array_equal(data_set.palette, synthetic.PALETTE)
        assert data_set.ignore_index == synthetic.IGNORE
