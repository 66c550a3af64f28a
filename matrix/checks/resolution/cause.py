"""Why a set of packages does not resolve.

A module of its own, since whoever reads recorded answers needs these words, and not the patterns
of `uv_output`, which take their time to compile.
"""

from matrix._util.enums import StrEnum


class Cause(StrEnum):
    """Why a set of packages does not resolve.

    CONFLICT: two demands exclude each other, or what is demanded is not published. NO_WHEEL: there
    is no wheel for that Python or platform. PYTHON: a release refuses that Python. INDEX: the index
    did not give what it was asked for, which says nothing of the packages.
    """

    CONFLICT = "conflict"
    NO_WHEEL = "no wheel"
    PYTHON = "python"
    INDEX = "index"


PACKAGE_CAUSES = (Cause.CONFLICT, Cause.NO_WHEEL, Cause.PYTHON)
"""The causes that lie in the packages themselves, so that the answer can be kept."""
