"""What failed for something outside of the pair and of the machine's parts, told by its text.

Pure, and importable inside a cell.
"""

from __future__ import annotations

import re

PORT_TAKEN = r"\bEADDRINUSE\b|\b(?i:address already in use)\b"
"""Another process took the port between the moment when a start chose it and when it listened.

torch's TCPStore says it so, as seen with two runs side by side on one machine (vLLM 0.19.1 with
torch 2.10.0), and so does Python's own socket.
"""
_PORT_TAKEN = re.compile(PORT_TAKEN)


def port_taken(failure: str) -> bool:
    """Return whether a reason, a signature or a failure's text says that a port was taken.

    >>> port_taken("OSError: [Errno 98] Address already in use")
    True
    >>> port_taken("RuntimeError: the address is unused")
    False
    """
    return _PORT_TAKEN.search(failure) is not None
