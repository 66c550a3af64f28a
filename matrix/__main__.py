"""`python -m matrix`."""

import sys

from matrix.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
