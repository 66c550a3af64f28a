"""What this machine has for cases that run side by side."""

from matrix._util.cores import available_cores
from matrix._util.memory import CASE_MIB, available_memory_mib


def has_room_for(cases: int, *, spare: int = 0) -> bool:
    """Return whether each of so many cases has a core and memory here, and `spare` more memory."""
    free = available_memory_mib() or 0
    return available_cores() >= cases and free >= (cases + spare) * CASE_MIB
