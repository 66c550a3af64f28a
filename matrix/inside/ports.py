"""Ports of a case's own, so that cases and cells on one machine do not take each other's."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

_VARIABLE = "VLLM_PORT"
_FIRST = 20000
_BLOCK = 100
_LAST = 65535


class CasePorts:
    """A block of ports that no other case on this machine is given while this object is open.

    vLLM looks for a free port from `VLLM_PORT` upwards and opens it seconds later. Two starts that
    look at once would find the same port. So each case holds the first port of a block, and its
    starts look behind it. The blocks begin at the port that the user named in `VLLM_PORT`, else
    below those that the kernel gives out.
    """

    def __init__(self) -> None:
        self._held: socket.socket | None = None
        self._first = 0
        named = os.environ.get(_VARIABLE, str(_FIRST))
        if not named.isdecimal():
            return  # vLLM refuses it, in its own words.
        for first in range(int(named), _LAST - _BLOCK, _BLOCK):
            with suppress(OSError):
                self._held = _open(first)
                self._first = first
                return

    @property
    def environment(self) -> dict[str, str]:
        """Variables for the case's child; none where no block of ports was free."""
        return {} if self._held is None else {_VARIABLE: str(self._first + 1)}

    def close(self) -> None:
        """Give the block back."""
        if self._held is not None:
            self._held.close()
            self._held = None


def _open(port: int) -> socket.socket:
    # It listens: a bound socket alone does not keep out one with SO_REUSEADDR.
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        held.bind(("", port))
        held.listen(1)
    except OSError:
        held.close()
        raise
    return held
