"""`StrEnum` for every Python of the matrix: a closed set of strings whose members are strings."""

import sys
from enum import Enum

if sys.version_info >= (3, 11):
    from enum import StrEnum
else:

    class StrEnum(str, Enum):
        """An enum whose members are, print and format as their values, as of Python 3.11."""

        __str__ = str.__str__
        __format__ = str.__format__  # type: ignore[assignment]
