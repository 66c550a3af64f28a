"""On what an advice about a pair may rest: the kinds of evidence.

The parser of the command takes its choices from here, so this imports nothing that takes time.
"""

from matrix._util.enums import StrEnum


class EvidenceKind(StrEnum):
    """On what an advice about a pair rests, the best first.

    `MEASURED`: it ran on this kind of GPU, or on any where none was asked for. `ALIKE`: it ran on
    another GPU of the same compute capability. `ELSEWHERE`: it ran on a GPU of another one, or on
    another processor. `PREDICTED`: it ran on the CPU. `STATIC`: it has no run, only checks.
    """

    MEASURED = "measured"
    ALIKE = "alike"
    ELSEWHERE = "elsewhere"
    PREDICTED = "predicted"
    STATIC = "static"


_ORDER = tuple(EvidenceKind)


def is_enough(kind: EvidenceKind, least: EvidenceKind) -> bool:
    """Tell whether evidence is at least as good as what is asked for.

    >>> is_enough(EvidenceKind.ALIKE, EvidenceKind.PREDICTED)
    True
    """
    return _ORDER.index(kind) <= _ORDER.index(least)
