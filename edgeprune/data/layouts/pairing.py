"""How the names of images and of their masks go together: equal stems, or endings such as `_mask`."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from edgeprune.data.datasets import STEM
from edgeprune.data.image import IMAGE_SUFFIXES
from edgeprune.data.labels import LABEL_SUFFIXES
from edgeprune.data.layouts.found import Content
from edgeprune.data.layouts.tree import Tree, join
from edgeprune.data.split import spread

IMAGE_ENDINGS = ("_leftImg8bit", "_image", "_img", "_rgb", "_RGB", "_sat", "-image", "-img")  # that a mask has not
PROBES = 9  # images whose masks are looked for to learn the endings; a third of them must have one
LEAST_SHARE = 0.5  # of the images that must have a mask; those without are a fault that the lint tells


@dataclass(frozen=True, order=True)
class Way:
    """One way in which names go together, and which share of the images has a mask by it."""

    share: float
    images: str
    labels: str
    exclude: tuple[str, ...] = ()
    masks: list[str] = field(default_factory=list, compare=False)  # below the data set's folder

    @property
    def spec(self) -> Content:
        """The split, as the YAML has it."""
        content: Content = {"images": self.images or ".", "labels": self.labels or "."}
        return content | ({"exclude": list(self.exclude)} if self.exclude else {})


def ways(tree: Tree, images: str, labels: str) -> list[Way]:
    """The best ways in which the images of a folder go with the masks of one: none, one, or several that are as good.

    Args:
        images, labels: folders below the data set's, searched with all below them; they may be one.
    """
    one, inside = images == labels, f"{labels}/".removeprefix(f"{images}/" if images else "")
    pictures = [
        _split(path)
        for path in tree.below(images, IMAGE_SUFFIXES)
        if one or not (labels.startswith(images) and path.startswith(inside))
    ]
    paths = {_split(path)[0]: path for path in tree.below(labels, LABEL_SUFFIXES)}
    masks = {stem: os.path.splitext(path)[1] for stem, path in paths.items()}
    if one and any(suffix.lower() not in LABEL_SUFFIXES for _, suffix in pictures):
        pictures = [(stem, suffix) for stem, suffix in pictures if suffix.lower() not in LABEL_SUFFIXES]
    found = []
    for ending in ("", *IMAGE_ENDINGS):
        stems = [stem.removesuffix(ending) for stem, _ in pictures if stem.endswith(ending)]
        for of_mask in sorted(_endings(stems, masks)):
            if one and of_mask == ending and any(suffix.lower() in LABEL_SUFFIXES for _, suffix in pictures):
                continue  # a picture is not its own mask
            of_masks = [stem + of_mask for stem in stems if stem + of_mask in masks]
            total = len(pictures)
            if one and len(pictures) == len(masks):  # they are all of one kind, the masks among them
                total -= len(of_masks)
            share = len(of_masks) / max(total, 1)
            if share >= LEAST_SHARE:
                suffixes = Counter(suffix for _, suffix in pictures), Counter(masks[stem] for stem in of_masks)
                whole = [join(labels, paths[stem]) for stem in of_masks]
                found.append(_way(share, (images, labels), (ending, of_mask), suffixes, whole))
    best = max((each.share for each in found), default=0.0)
    return [each for each in found if each.share == best]


def _split(path: str) -> tuple[str, str]:
    """Stem and suffix; as NFC, for macOS names files in NFD."""
    return os.path.splitext(unicodedata.normalize("NFC", path))


def _endings(stems: list[str], masks: Iterable[str]) -> set[str]:
    """What masks have behind the stems of several images: of `f1` alone `f10` and `f11_mask` have endings, too."""
    probes = [stems[index] for index in spread(len(stems), PROBES)] if stems else []
    found = Counter(mask.removeprefix(stem) for stem in probes for mask in masks if mask.startswith(stem))
    return {ending for ending, count in found.items() if 3 * count >= len(probes)}


def _way(
    share: float,
    folders: tuple[str, str],
    endings: tuple[str, str],
    suffixes: tuple[Counter[str], Counter[str]],
    masks: list[str],
) -> Way:
    (images, labels), (ending, of_mask) = folders, endings
    (image_suffix, _), (mask_suffix, _) = (each.most_common(1)[0] for each in suffixes)
    if not ending and not of_mask:
        return Way(share, images, labels, masks=masks)
    as_label = join(labels, f"{STEM}{of_mask}{mask_suffix}")
    as_image = join(images, f"{STEM}{ending}{image_suffix}") if ending else images
    return Way(share, as_image, as_label, (f"*{of_mask}",) if images == labels and not ending else (), masks)
