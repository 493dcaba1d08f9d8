"""What ids of polygons mean, which class the pixels of none are, and which classes are of things."""

from edgeprune.data.datasets import IGNORE, DataSet

BACKGROUND = "background"  # of `names`: the class of what no polygon covers


def class_table(data_set: DataSet) -> tuple[dict[int, int], int]:
    """The class index of each id in the files, and that of pixels that no polygon covers: `background`, or ignored where there
    is no such class."""
    places = {name: index for index, name in enumerate(data_set.names)}
    ids = data_set.ids or dict(enumerate(data_set.names))
    of_name = places | {IGNORE: data_set.ignore_index}
    return {index: of_name[name] for index, name in ids.items()}, places.get(BACKGROUND, data_set.ignore_index)


def thing_classes(data_set: DataSet) -> frozenset[int]:
    """The classes whose outlines are things, which are counted; the others are stuff, which is in label maps alone. Where
    `things` names none, all but `background` are."""
    named = data_set.things or [name for name in data_set.names if name != BACKGROUND]
    return frozenset(index for index, name in enumerate(data_set.names) if name in named)
