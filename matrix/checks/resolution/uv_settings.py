"""Read which indexes uv would ask, from the settings that it shows. Pure.

`uv pip compile --show-settings` prints what its variables, its options and its configuration files
come to, and resolves nothing. It is the debug output of uv's own types (uv 0.8 to 0.13), so another
release may print something else. It has the credentials of indexes: read it, and keep none of it.
"""

from __future__ import annotations

import re

_LOCATIONS = re.compile(
    r"index_locations: IndexLocations \{\s*indexes: \[(?P<indexes>.*?)"
    r"\s*flat_index: \[(?P<links>.*?)\],\s*no_index: ",
    re.DOTALL,
)
_INDEX = re.compile(r"^\s*Index \{$", re.MULTILINE)
# An explicit index serves only the packages that a project names for it, and a cell has none.
_KIND = re.compile(r"^\s*explicit: (true|false),\s*default: (true|false),$", re.MULTILINE)


def more_indexes(settings: str) -> bool | None:
    """Return whether these settings have more indexes, or places of files, than the default index.

    None if they are not in the form that is known here.
    """
    found = _LOCATIONS.search(settings)
    if found is None:
        return None
    kinds = _KIND.findall(found["indexes"])
    if len(kinds) != len(_INDEX.findall(found["indexes"])):
        return None
    return bool(found["links"].strip()) or ("false", "false") in kinds
