"""Pack a wheel for a bundle with Zstandard, and again with one level for all its files.

At the level of large files, Zstandard sets up large tables for each small one. This prints CPU
seconds and sizes of both ways, in one run, and ends with 1 where the level for small files saves
less than half of the seconds or makes the wheel more than 1 % larger. `--wheel` names a wheel; else
one is made of 2,000 Python files of the standard library.
"""

from __future__ import annotations

import argparse
import shutil
import sysconfig
import tempfile
import time
import zipfile
from pathlib import Path

from matrix.bundle import wheel


def made(folder: Path) -> Path:
    """Write a wheel of small files: what most of a wheel is."""
    path = folder / "small-1-py3-none-any.whl"
    library = Path(sysconfig.get_path("stdlib"))
    names = sorted(library.glob("*.py")) + sorted(library.glob("*/*.py"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(2000):
            archive.write(names[number % len(names)], f"small/{number}.py")
        archive.writestr("small-1.dist-info/RECORD", "")
    return path


def packed(path: Path, *, apart: bool) -> tuple[float, int]:
    """Return the CPU seconds of packing a copy of a wheel, and its size."""
    small = wheel.SMALL
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(path, folder))
        wheel.SMALL = small if apart else 0
        began = time.process_time()
        try:
            wheel.rewrite(copy, None, repack=True)
        finally:
            wheel.SMALL = small
        return time.process_time() - began, copy.stat().st_size


def main() -> int:
    """Print both ways, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.wheel or made(Path(folder))
        one, one_size = packed(path, apart=False)
        two, two_size = packed(path, apart=True)
    print(f"one level      {one:8.2f} s {one_size:12,} bytes")
    print(f"two levels     {two:8.2f} s {two_size:12,} bytes")
    print(f"ratio          {two / one:8.2f}   {two_size / one_size:12.4f}")
    return int(two > one / 2 or two_size > 1.01 * one_size)


if __name__ == "__main__":
    raise SystemExit(main())
