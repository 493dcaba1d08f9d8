"""Whether an engine answers as the bundle's reference frames do: what ONNX Runtime said of them when it was built."""

from collections.abc import Sequence

from edgeprune.base.errors import InputError
from edgeprune.bundle import FULL, MIXED, Bundle, read_references
from edgeprune.bundle.references import FRAMES, answers_of
from edgeprune.runtime.engines import Session
from edgeprune.runtime.tasks import Agreement, find_task


def compare_with_references(
    session: Session, bundle: Bundle, precision: str, buckets: Sequence[str]
) -> dict[str, Agreement]:
    """What agrees with the references of a precision, over their frames, by bucket."""
    agreement = find_task(bundle.manifest.task).agreement
    references, inside_hw = read_references(bundle), bundle.manifest.inside_hw
    expected = {
        name: list(answers_of(bundle, references, precision, FULL if bundle.remembers else name)) for name in buckets
    }
    found = dict.fromkeys(buckets, Agreement(0, 0))
    for index, frame_HW3 in enumerate(references[FRAMES]):
        session.reset()
        session.start(frame_HW3)
        for name in buckets:
            found[name] += agreement(expected[name][index], session.finish(name), inside_hw)
    return found


def agreement_of(
    session: Session, bundle: Bundle, precision: str, buckets: Sequence[str] | None = None
) -> dict[str, float]:
    """The share that is equal to the references of a precision, such as that of labels, by bucket (all by default)."""
    names = [bucket.name for bucket in bundle.manifest.buckets] if buckets is None else buckets
    return {name: found.share for name, found in compare_with_references(session, bundle, precision, names).items()}


def refuse_disagreeing(session: Session, bundle: Bundle, precision: str, buckets: Sequence[str]) -> None:
    """Holds a session to the bundle's references, each bucket as its target holds that precision.

    Args:
        precision: what the session was opened in; of `mixed` each bucket is compared with its own.

    Raises:
        InputError: a bucket answers otherwise.
    """
    parity, graphs = bundle.manifest.target.parity, bundle.manifest.graphs
    if bundle.remembers:  # of frames that are none of a stream what all tokens give is known
        buckets = [bundle.manifest.buckets[-1].name]
    trunk = _origin(bundle, graphs[precision].trunk) if precision == MIXED else precision
    for bucket in buckets:
        own = _origin(bundle, graphs[precision].tails[bucket]) if precision == MIXED else precision
        share = agreement_of(session, bundle, own, [bucket])[bucket]
        least = min(parity.least(each) for each in (own, trunk))
        if share < least:
            raise InputError(
                f"{bucket} in {own} gives {share:.2%} of the labels that the bundle's references have, at least "
                f"{least:.2%} expected; build it again"
            )


def _origin(bundle: Bundle, path: str) -> str:
    """The precision that a graph of a mixture was built in."""
    graphs = bundle.manifest.graphs
    return next(each for each in graphs if each != MIXED and path in (graphs[each].trunk, *graphs[each].tails.values()))
