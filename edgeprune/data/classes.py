"""What ids of polygons mean, and which class the pixels of none are."""

from edgeprune.data.datasets import IGNORE, DataSet

BACKGROUND = "background"  # of `names`: the class of what no polygon covers


def class_table(data_set: DataSet) -> tuple[dict[int, int], int]:
    """The class index of each id in the files, and that of pixels that no polygon covers: `background`, or ignored where there
    is no such class."""
    places = {name: index for index, name in enumerate(data_set.names)}
    ids = data_set.ids or dict(enumerate(data_set.names))
    of_name = places | {IGNORE: data_set.ignore_index}
    return {index: of_name[name] for index, name in ids.items()}, places.get(BACKGROUND, data_set.ignore_index)
