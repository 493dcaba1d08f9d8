"""What a run needs of this device before its first frame: the engine, the power sensor, compiled graphs."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeprune.base.errors import InputError, choose
from edgeprune.base.power_mode import slower_than_it_could_be
from edgeprune.bundle import Bundle
from edgeprune.runtime.compiling import choose_on_device, graphs_of, refuse_unusable
from edgeprune.runtime.engines import ENGINES, Engine
from edgeprune.runtime.kept_choice import as_chosen, failed_before, kept_choice
from edgeprune.runtime.meters import Meter, NoSensor, open_meter, open_typed
from edgeprune.runtime.meters.none import NoMeter

logger = logging.getLogger(__name__)


def require_engine(bundle: Bundle, engine: str) -> Engine:
    """The engine that is to run a bundle here. The first thing to ask: without it nothing else that a target wants of a machine
    (its power sensor, its cameras) is of interest.

    Raises:
        InputError: unknown, or its library is not here; says what to type.
    """
    opener = choose(ENGINES, engine, "engine")
    if reason := opener.missing():
        target = bundle.manifest.target
        what = f"target {target.name} of {bundle.folder}: " if engine == target.engine else ""
        raise InputError(what + reason)
    return opener


def refuse_threads(engines: Sequence[str], threads: int | None) -> None:
    """Raises InputError for a count of threads where no engine takes one."""
    if threads and not any(ENGINES[name].takes_threads for name in engines):
        raise InputError(f"{' and '.join(engines)} has no use for --threads, its kernels run on a GPU; leave it out")


def open_sensor(bundle: Bundle, meter: str | None) -> Meter:
    """The meter that was asked for, else the target's. Where the target's sensor is not here, as on a machine that its board's
    bundle was copied to, there is no figure, and the summary says why: no sensor is a value.

    Raises:
        InputError: the one that was asked for is not here.
    """
    power = bundle.manifest.target.power
    if meter is not None:
        its_own = power.meter in (meter, "auto")  # the rails of a board say nothing of another meter
        return open_typed(meter, rails=power.rails if its_own else None, total_of=power.total if its_own else None)
    try:
        return open_meter(power.meter, rails=power.rails, total_of=power.total)
    except NoSensor as error:
        return NoMeter(str(error))


def say_if_slow(bundle: Bundle) -> None:
    """What is timed now stays chosen: says so where the board isn't in its fastest power mode."""
    if bundle.manifest.target.compiled_on_device and (line := slower_than_it_could_be()):
        logger.warning(line)


def prepare_run(bundle: Bundle, engine: str, single: Sequence[Path] = ()) -> Bundle:
    """Compiles what `engine` has to compile on this device and has not yet: the bundle's graphs, and `single` ones.

    Returns:
        the bundle as it is run here: where it is one for devices that compile, with what this device chose before or
        chooses now. What that leaves out is said.

    Raises:
        InputError, RunError: the engine is not here; nothing could be compiled that a run needs, or one of `single`.
    """
    opener, target = require_engine(bundle, engine), bundle.manifest.target
    say_if_slow(bundle)
    decides = target.compiled_on_device and engine == target.engine
    choice = kept_choice(bundle, opener) if decides else None
    if choice is not None:
        failed = failed_before(bundle)
        opener.prepare([graph for graph in graphs_of(as_chosen(bundle, opener, choice)) if graph not in failed])
    else:
        refuse_unusable(bundle, opener, opener.prepare(graphs_of(bundle)))
        choice = choose_on_device(bundle, opener) if decides else None
    for error in opener.prepare(single).values():
        raise error
    if choice is None:
        return bundle
    say_dropped(choice.dropped)
    return as_chosen(bundle, opener, choice)


def say_dropped(dropped: Mapping[str, str]) -> None:
    """Says which buckets a device does not use, and why."""
    for bucket, reason in dropped.items():
        logger.warning(f"{bucket} is not used on this device: {reason}")
