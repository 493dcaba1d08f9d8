"""Sinks: where the results of a run go, one kind per file. Adding one is a new file and a row in SINKS."""

from collections.abc import Mapping

from edgeprune.base.errors import InputError, choose
from edgeprune.base.paths import real_path
from edgeprune.runtime.sinks.areas import areas_output, open_areas
from edgeprune.runtime.sinks.call import Call, find_function, look_at_name
from edgeprune.runtime.sinks.labels import label_output, open_labels
from edgeprune.runtime.sinks.mqtt import Mqtt, check_mqtt
from edgeprune.runtime.sinks.record import open_record, record_output
from edgeprune.runtime.sinks.sink import Output, Sink, SinkKind
from edgeprune.runtime.sinks.split import shared, topic_of_camera
from edgeprune.runtime.sinks.video import open_video, video_output
from edgeprune.runtime.sinks.view import View, check_view, look_at_address

__all__ = ["SINKS", "Output", "Sink", "SinkKind", "outputs_of"]

# A frame goes to them in this order; the record comes last, for a row says what the others took.
SINKS: dict[str, SinkKind] = {
    "call": SinkKind(
        "MODULE:FUNCTION",
        "Call a function of yours with each result.",
        find_function,
        Call,
        writes=False,
        in_loop=True,
        name_for=shared,
        look=look_at_name,
    ),
    "view": SinkKind(
        "[HOST:]PORT",
        "Serve a live page, such as 8080: to this machine alone, or with 0.0.0.0:8080 to its network, by a token.",
        check_view,
        View,
        writes=False,
        name_for=shared,
        look=look_at_address,
    ),
    "mqtt": SinkKind(
        "URL",
        "Publish the share of each class in each frame, and things: mqtt://[USER@]HOST/TOPIC, or mqtts:// with TLS.",
        check_mqtt,
        Mqtt,
        writes=False,
        name_for=topic_of_camera,
        look=check_mqtt,
    ),
    "out": SinkKind(
        "FILE",
        "Overlay video (.mp4), replaced at the end where it is there; FOLDER/ has a file a minute without an end.",
        video_output,
        open_video,
    ),
    "labels": SinkKind(
        "FOLDER",
        "Label maps: a new or empty folder of PNGs of class ids, one per frame, or a file (.npz), which is replaced; FOLDER/ "
        "and FOLDER.npz/ have no end; with their confidence (.pgm) where the bundle has it.",
        label_output,
        open_labels,
    ),
    "areas": SinkKind(
        "FILE",
        "A line of JSON per frame with the share of each class, and each thing with its mask where the bundle finds things "
        "(.jsonl), replaced at the end; FOLDER/ has no end.",
        areas_output,
        open_areas,
    ),
    "record": SinkKind(
        "FILE",
        "A row per frame (.csv or .jsonl), replaced at the end where it is there; FOLDER/ has files without an end.",
        record_output,
        open_record,
    ),
}


def outputs_of(names: Mapping[str, str]) -> list[Output]:
    """What the sinks of a run write.

    Args:
        names: by their keys in SINKS.

    Raises:
        InputError: an unknown sink, a name that can't be, or a file in a folder that another sink has for itself.
    """
    found = [choose(SINKS, key, "sink").output(name) for key, name in names.items()]
    outputs = [output for output in found if output]
    for output in outputs:
        for other in outputs:
            if other.folder and real_path(other.path) in real_path(output.path).parents:
                raise InputError(
                    f"{output.path} lies in {other.path}, which another output has for itself; name another place"
                )
    return outputs
