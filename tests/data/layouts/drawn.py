"""A tiny data set in each layout that data sets come in, drawn by the test: two boxes of classes 1 and 2 on class 0."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgeprune.data.datasets import voc_colours
from edgeprune.data.samples import UInt8

HEIGHT, WIDTH = 12, 16
FRAMES = {"train": ("a", "b", "c"), "val": ("d", "e")}
Labels = dict[str, UInt8]  # by the name of the sample


def boxes(frame: int) -> list[tuple[int, int, int, int, int]]:
    """Class, left, top, right, bottom of each box of a frame."""
    return [(1, 1 + frame, 2, 7 + frame, 6), (2, 9, 7, 14, 11 - frame % 2)]


def draw(frame: int) -> UInt8:
    label_HW = np.zeros((HEIGHT, WIDTH), np.uint8)
    for index, left, top, right, bottom in boxes(frame):
        label_HW[top:bottom, left:right] = index
    return label_HW


def frames() -> list[tuple[str, str, int]]:
    """Split, stem and number of every frame."""
    stems = [(split, stem) for split, stems in FRAMES.items() for stem in stems]
    return [(split, stem, frame) for frame, (split, stem) in enumerate(stems)]


def write_image(path: Path, frame: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(frame).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(noise).save(path)


def write_mask(path: Path, label: UInt8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(label).save(path)


@dataclass
class Layout:
    """How a layout is drawn.

    Attributes:
        write: writes it into a folder.
        name: of a sample, from its split and stem; the stem alone by default.
        ids: what the file holds for class 0, 1, 2; and what they are read as, where that is not 0, 1, 2.
    """

    layout: str
    write: Callable[[Path, Callable[[int], UInt8]], Any]
    names: list[str] | str
    name: Callable[[str, str], str] = lambda split, stem: stem
    ids: tuple[int, int, int] = (0, 1, 2)
    read_as: tuple[int, int, int] = (0, 1, 2)
    divided: bool = field(default=False)  # there is one pool, which is divided by name

    def make(self, folder: Path) -> dict[str, Labels]:
        """Writes it; returns the labels that are to be read from each split."""
        self.write(folder, lambda frame: np.array(self.ids, np.uint8)[draw(frame)])
        expected: dict[str, Labels] = {"train": {}, "val": {}}
        for split, stem, frame in frames():
            expected[split][self.name(split, stem)] = np.array(self.read_as, np.uint8)[draw(frame)]
        return expected


def masks(image: str, mask: str) -> Callable[[Path, Callable[[int], UInt8]], None]:
    """Writes images and masks by patterns of `{split}` and `{stem}`."""

    def write(folder: Path, label: Callable[[int], UInt8]) -> None:
        for split, stem, frame in frames():
            write_image(folder / image.format(split=split, stem=stem), frame)
            write_mask(folder / mask.format(split=split, stem=stem), label(frame))

    return write


def with_files(
    write: Callable[[Path, Callable[[int], UInt8]], None], files: Mapping[str, str]
) -> Callable[[Path, Callable[[int], UInt8]], None]:
    """And text files beside."""

    def both(folder: Path, label: Callable[[int], UInt8]) -> None:
        write(folder, label)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    return both


def renamed(write: Callable[[Path, Callable[[int], UInt8]], None], **folders: str) -> Any:
    """With `train` and `val` called otherwise, wherever they are."""

    def both(folder: Path, label: Callable[[int], UInt8]) -> None:
        write(folder, label)
        for split, name in folders.items():
            for path in sorted(folder.rglob(split), reverse=True):
                path.rename(path.with_name(name))

    return both


def stems_of(split: str, pattern: str = "{stem}") -> str:
    return "".join(pattern.format(stem=stem) + "\n" for stem in FRAMES[split])


def coloured(write: Callable[[Path, Callable[[int], UInt8]], None], palette: list[tuple[int, int, int]]) -> Any:
    """With masks in colours."""
    return lambda folder, label: write(folder, lambda frame: np.array(palette, np.uint8)[label(frame)])


def palette_png(folder: Path, label: Callable[[int], UInt8]) -> None:
    """PASCAL VOC: palette PNGs in which a border is void, and lists."""
    lists = {f"ImageSets/Segmentation/{split}.txt": stems_of(split) for split in FRAMES}
    with_files(masks("JPEGImages/{stem}.jpg", "SegmentationClass/{stem}.png"), lists)(folder, label)
    for path in (folder / "SegmentationClass").iterdir():
        picture = Image.fromarray(np.asarray(Image.open(path)), mode="P")
        picture.putpalette([channel for colour in voc_colours(256) for channel in colour])
        picture.save(path)
    write_image(folder / "JPEGImages" / "unlabelled.jpg", 9)


def segmentation_of(frame: int, kind: str) -> list[tuple[int, Any]]:
    """Class and COCO's segmentation of each box: a polygon, run lengths, or their compressed form."""
    found: list[tuple[int, Any]] = []
    for index, left, top, right, bottom in boxes(frame):
        outline = [left, top, right, top, right, bottom, left, bottom]
        mask_HW = np.zeros((HEIGHT, WIDTH), bool)
        mask_HW[top:bottom, left:right] = True
        runs, value = [0], False
        for pixel in mask_HW.T.ravel():  # down the columns
            if pixel != value:
                runs.append(0)
                value = pixel
            runs[-1] += 1
        size = [HEIGHT, WIDTH]
        forms: dict[str, Any] = {
            "polygon": [outline],
            "rle": {"counts": runs, "size": size},
            "compressed": {"counts": compress(runs), "size": size},
        }
        found.append((index, forms[kind]))
    return found


def compress(runs: list[int]) -> str:
    """cocoapi's `rleToString`."""
    text = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            code = value & 0x1F
            value >>= 5
            more = value != (-1 if code & 0x10 else 0)
            text += chr((code | 0x20 if more else code) + 48)
    return text


def coco(image: str, annotations: str, kind: str) -> Callable[[Path, Callable[[int], UInt8]], None]:
    """COCO's JSON; its category ids are 3 and 7, and one category is of no instance."""

    def write(folder: Path, label: Callable[[int], UInt8]) -> None:
        for split in FRAMES:
            content: dict[str, Any] = {"info": {"year": 2017}, "images": [], "annotations": []}
            content["categories"] = [
                {"id": 1, "name": "unused"},
                {"id": 3, "name": "büchse"},
                {"id": 7, "name": "crate"},
            ]
            for _, stem, frame in (each for each in frames() if each[0] == split):
                path = image.format(split=split, stem=stem)
                write_image(folder / path, frame)
                about = {"id": frame, "file_name": Path(path).name, "height": HEIGHT, "width": WIDTH}
                content["images"].append(about)
                for index, shape in segmentation_of(frame, kind):
                    ids = {"id": len(content["annotations"]), "image_id": frame, "category_id": {1: 3, 2: 7}[index]}
                    content["annotations"].append(ids | {"segmentation": shape, "iscrowd": int(kind != "polygon")})
            file = folder / annotations.format(split=split)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    return write


def yolo(folder: Path, label: Callable[[int], UInt8]) -> None:
    """YOLO, as Roboflow exports it: the paths in `data.yaml` lead one folder too far up."""
    for split, stem, frame in frames():
        write_image(folder / split / "images" / f"{stem}.jpg", frame)
        lines = []
        for index, left, top, right, bottom in boxes(frame):
            corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
            lines.append(" ".join([str(index - 1), *(f"{x / WIDTH} {y / HEIGHT}" for x, y in corners)]))
        path = folder / split / "labels" / f"{stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
    (folder / "data.yaml").write_text("train: ../train/images\nval: ../val/images\nnc: 2\nnames: ['box', 'crate']\n")


def one_pool(folder: Path, label: Callable[[int], UInt8]) -> None:
    """Frames 8 to 27 of one video without zeros before their numbers, in one folder."""
    for frame in range(20):
        write_image(folder / "images" / f"f{frame + 8}.jpg", frame)
        write_mask(folder / "masks" / f"f{frame + 8}.png", label(frame % 5))


CLASSES = ["class_0", "class_1", "class_2"]
BOXES = ["background", "box", "crate"]
COLOURS = [(0, 0, 0), (200, 30, 30), (30, 30, 200)]
CITYSCAPES_ID = (7, 11, 26)  # road, building, car
LAYOUTS: dict[str, Layout] = {
    "split/kind": Layout("folders", masks("{split}/images/{stem}.jpg", "{split}/labels/{stem}.png"), CLASSES),
    "kind/split": Layout("folders", masks("imgs/{split}/{stem}.png", "masks/{split}/{stem}.png"), CLASSES),
    "_gt": Layout("folders", masks("{split}/images/{stem}.jpg", "{split}/gt/{stem}_gt.png"), CLASSES),
    "_mask beside png": Layout("folders", masks("{split}/{stem}.png", "{split}/{stem}_mask.png"), CLASSES),
    "png beside jpg": Layout("folders", masks("{split}/{stem}.jpg", "{split}/{stem}.png"), CLASSES),
    "_image and _label": Layout("folders", masks("{split}/{stem}_image.png", "{split}/{stem}_label.png"), CLASSES),
    "trainannot": Layout("folders", masks("{split}/{stem}.png", "{split}annot/{stem}.png"), CLASSES),
    "cities": Layout(
        "folders",
        masks("images/{split}/ulm/{stem}.jpg", "labels/{split}/ulm/{stem}_labelIds.png"),
        CLASSES,
        name=lambda split, stem: f"ulm/{stem}",
    ),
    "mmsegmentation": Layout("folders", masks("img_dir/{split}/{stem}.jpg", "ann_dir/{split}/{stem}.png"), CLASSES),
    "training, validation": Layout(
        "folders",
        renamed(
            masks("images/{split}/{stem}.jpg", "annotations/{split}/{stem}.png"), train="training", val="validation"
        ),
        CLASSES,
    ),
    "lists of stems": Layout(
        "folders",
        with_files(
            masks("images/{stem}.jpg", "labels/{stem}.png"),
            {"splits/train.txt": stems_of("train"), "splits/val.txt": stems_of("val", "images/{stem}.jpg")},
        ),
        CLASSES,
    ),
    "lists of pairs": Layout(
        "folders",
        with_files(
            masks("in/{stem}.jpg", "out/{stem}_x.png"),
            {f"{split}.txt": stems_of(split, "/in/{stem}.jpg /out/{stem}_x.png") for split in FRAMES},
        ),
        CLASSES,
        name=lambda split, stem: f"in/{stem}",
    ),
    "classes.txt": Layout(
        "folders",
        with_files(
            masks("{split}/images/{stem}.jpg", "{split}/labels/{stem}.png"), {"classes.txt": "floor\nbox\ncrate\n"}
        ),
        ["floor", "box", "crate"],
    ),
    "ids from 1": Layout(
        "folders",
        masks("{split}/images/{stem}.jpg", "{split}/labels/{stem}.png"),
        ["class_1", "class_2", "class_3"],
        ids=(1, 2, 3),
    ),
    "sparse ids": Layout(
        "folders",
        masks("{split}/images/{stem}.jpg", "{split}/labels/{stem}.png"),
        ["class_0", "class_75", "class_113"],
        ids=(0, 75, 113),
    ),
    "0 and 255": Layout(
        "folders",
        masks("{split}/images/{stem}.jpg", "{split}/labels/{stem}.png"),
        ["background", "foreground"],
        ids=(0, 255, 255),
        read_as=(0, 1, 1),
    ),
    "colours": Layout(
        "folders",
        coloured(masks("{split}/images/{stem}.jpg", "{split}/labels/{stem}.png"), COLOURS),
        CLASSES,
        read_as=(0, 2, 1),
    ),
    "class_dict.csv": Layout(
        "folders",
        with_files(
            coloured(masks("{split}/{stem}.png", "{split}_labels/{stem}_L.png"), COLOURS),
            {"class_dict.csv": "name,r,g,b\nvoid,0,0,0\nbox,200,30,30\ncrate,30,30,200\n"},
        ),
        ["box", "crate"],
        read_as=(255, 0, 1),
    ),
    "cityscapes labelIds": Layout(
        "cityscapes",
        masks("leftImg8bit/{split}/ulm/{stem}_leftImg8bit.png", "gtFine/{split}/ulm/{stem}_gtFine_labelIds.png"),
        "cityscapes",
        name=lambda split, stem: f"ulm/{stem}",
        ids=CITYSCAPES_ID,
        read_as=(0, 2, 13),
    ),
    "cityscapes trainIds": Layout(
        "cityscapes",
        masks("leftImg8bit/{split}/ulm/{stem}_leftImg8bit.png", "gtFine/{split}/ulm/{stem}_gtFine_labelTrainIds.png"),
        "cityscapes",
        name=lambda split, stem: f"ulm/{stem}",
        ids=(0, 13, 255),
        read_as=(0, 13, 255),
    ),
    "ade20k": Layout(
        "ade20k",
        renamed(
            masks("images/{split}/ADE_{stem}.jpg", "annotations/{split}/ADE_{stem}.png"),
            train="training",
            val="validation",
        ),
        "ade20k",
        name=lambda split, stem: f"ADE_{stem}",
        ids=(0, 1, 150),
        read_as=(255, 0, 149),
    ),
    "coco-stuff": Layout(
        "coco-stuff",
        renamed(masks("{split}/{stem}.jpg", "stuffthingmaps/{split}/{stem}.png"), train="train2017", val="val2017"),
        "coco-stuff",
        ids=(0, 181, 255),
        read_as=(0, 170, 255),
    ),
    "coco-stuff trainIds": Layout(
        "coco-stuff",
        renamed(
            masks("images/{split}/{stem}.jpg", "annotations/{split}/{stem}_labelTrainIds.png"),
            train="train2017",
            val="val2017",
        ),
        "coco-stuff",
        ids=(0, 170, 255),
        read_as=(0, 170, 255),
    ),
    "voc": Layout("voc", palette_png, "voc", ids=(0, 20, 255), read_as=(0, 20, 255)),
    "cvat": Layout(
        "cvat",
        with_files(
            coloured(masks("JPEGImages/{stem}.jpg", "SegmentationClass/{stem}.png"), COLOURS),
            {
                "labelmap.txt": "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbox:200,30,30::\ncrate:30,30,200::\n",
                **{f"ImageSets/Segmentation/{split}.txt": stems_of(split) for split in FRAMES},
            },
        ),
        BOXES,
    ),
    "roboflow": Layout(
        "roboflow",
        renamed(
            with_files(
                masks("{split}/{stem}.jpg", "{split}/{stem}_mask.png"),
                {f"{split}/_classes.csv": "Pixel Value, Class\n0, background\n1, box\n2, crate\n" for split in FRAMES},
            ),
            val="valid",
        ),
        BOXES,
    ),
    "coco polygons": Layout(
        "coco",
        coco("{split}/images/{stem}.jpg", "{split}/annotations.json", "polygon"),
        ["background", "büchse", "crate"],
    ),
    "coco run lengths": Layout(
        "coco",
        coco("images/{split}/{stem}.jpg", "annotations/instances_{split}.json", "rle"),
        ["background", "büchse", "crate"],
    ),
    "coco compressed": Layout(
        "coco",
        renamed(coco("{split}/{stem}.jpg", "{split}/_annotations.coco.json", "compressed"), val="valid"),
        ["background", "büchse", "crate"],
    ),
    "yolo": Layout("yolo", yolo, BOXES),
}


def in_a_wrapper(folder: Path) -> Path:
    """The same folder with another around it, as archives have it."""
    outer = folder.with_name("outer")
    outer.mkdir()
    shutil.move(folder, outer / folder.name)
    return outer
