"""Where the package's own data and the checkout are."""

import contextlib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package `matrix`."""

DATA = PACKAGE / "data"
"""The data files of the package."""

PUBLISHED = DATA / "published"
"""The published records, in a wheel alone: a checkout has them in `results`."""


def is_checkout(folder: Path) -> bool:
    """Tell whether a folder is a checkout of the matrix, and not where it was installed."""
    return (folder / "pyproject.toml").is_file()


def checkout_of(package: Path) -> Path:
    """Return the folder that holds the package, or where it is installed the current folder."""
    if not is_checkout(package.parent):
        with contextlib.suppress(OSError):  # the current folder may be gone
            return Path.cwd()
    return package.parent


INSTALLED = not is_checkout(PACKAGE.parent)
"""The package's data is of an installed release: an update takes its place."""

CHECKOUT = checkout_of(PACKAGE)
"""The checkout; of an installed package the current folder, which may be one."""
