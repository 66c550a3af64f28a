"""Why a set of packages does not resolve.

A module of its own, since whoever reads recorded answers needs these words, and not the patterns
of `uv_output`, which take their time to compile.
"""

from matrix._util.enums import StrEnum


class ConflictCause(StrEnum):
    """Why a set of packages does not resolve.

    CONFLICT: two demands exclude each other. NO_WHEEL: there is no wheel for that Python or
    platform. PYTHON: a release refuses that Python. NOT_PUBLISHED: all that fails is a demand for a
    newer release than the index has, on that day. INDEX: the index did not give what it was asked
    for. The last two say nothing of the packages.
    """

    CONFLICT = "conflict"
    NO_WHEEL = "no wheel"
    PYTHON = "python"
    NOT_PUBLISHED = "not published"
    INDEX = "index"


KEPT_CAUSES = (
    ConflictCause.CONFLICT,
    ConflictCause.NO_WHEEL,
    ConflictCause.PYTHON,
    ConflictCause.NOT_PUBLISHED,
)
"""The causes with which an answer is kept; with NOT_PUBLISHED it is unknown, and kept for a day."""
