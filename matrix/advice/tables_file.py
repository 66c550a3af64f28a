"""Read what is known of hardware, and of the wheels that were read, from the package's data."""

from __future__ import annotations

from matrix.advice.fits import MachineTables
from matrix.catalog.hardware_file import load_hardware
from matrix.checks.gpu_code.wheels import load_wheels


def load_tables() -> MachineTables:
    """Return what is known of hardware, and of wheels."""
    return MachineTables(hardware=load_hardware(), wheels=load_wheels())
