"""Records -> the compatibility table: `aggregate.py [FOLDER|FILE ...] [--out DIR]`.

DIR is `build/table` by default. `tox -e publish` writes the published table, into `results`.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder is on the path, not its repository: this must run from a bare checkout.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from matrix.cli import main

    sys.exit(main(["table", *sys.argv[1:]]))
