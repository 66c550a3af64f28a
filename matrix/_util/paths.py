"""Where the package's own data and the checkout are."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package `matrix`."""

DATA = PACKAGE / "data"
"""The data files of the package."""

CHECKOUT = PACKAGE.parent
"""The folder that holds the package: the checkout, unless the package is installed."""
