"""Hold the files of a release against its tag and the changelog, and write its notes.

    check_release.py TAG DIST --notes FILE

DIST has the sdist and the wheel of that version and nothing else, CHANGELOG.md has its section,
which becomes the notes, and no news fragment is left. Exit status: 0, or 1 with a line for each
fault.
"""

from __future__ import annotations

import argparse
import re
import runpy
from collections.abc import Iterator, Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
# By its path: where this runs the package need not be installed.
_TAG: re.Pattern[str] = runpy.run_path(str(_ROOT / "matrix/_util/own_version.py"))["TAG"]


def main(arguments: Sequence[str] | None = None, root: Path = _ROOT) -> int:
    """Check a release; return the exit status."""
    parser = argparse.ArgumentParser(description="Hold the files of a release against its tag.")
    parser.add_argument("tag", metavar="TAG", help="such as v0.2.0")
    parser.add_argument("dist", metavar="DIST", type=Path, help="the folder of sdist and wheel")
    parser.add_argument(
        "--notes", metavar="FILE", type=Path, required=True, help="where to write the notes"
    )
    options = parser.parse_args(arguments)
    tagged = _TAG.fullmatch(options.tag)
    if tagged is None:
        print(f"release: the tag {options.tag!r} is not a version such as v0.2.0 or v0.2.0rc1")
        return 1
    notes = notes_of((root / "CHANGELOG.md").read_text(encoding="utf-8"), tagged[1])
    faults = list(_faults(tagged[1], options.dist, root))
    if notes is None:
        faults.append(f"CHANGELOG.md has no section of {tagged[1]}; run towncrier build")
    else:
        options.notes.write_text(notes, encoding="utf-8")
    for fault in faults:
        print(f"release: {fault}")
    return int(bool(faults))


def _faults(version: str, dist: Path, root: Path) -> Iterator[str]:
    """Yield what is wrong with the files of a release, and the fragments that it leaves out."""
    if not dist.is_dir():
        yield f"{dist}: no such folder; build the sdist and the wheel into it"
        return
    stem = f"torch_vllm_matrix-{version}"
    wanted = {f"{stem}.tar.gz", f"{stem}-py3-none-any.whl"}
    found = {path.name for path in dist.iterdir() if not path.name.startswith(".")}
    for name in sorted(wanted - found):
        yield f"{dist} lacks {name}; is the tag on this commit?"
    for name in sorted(found - wanted):
        yield f"{dist} has {name}, which is not of {version}"
    left = [path for path in (root / "changelog.d").glob("*.md") if path.name != "README.md"]
    if left:
        yield f"{len(left)} fragments are left in changelog.d; run towncrier build before the tag"


def notes_of(changelog: str, version: str) -> str | None:
    """Return the section of a version without its title; None where there is none."""
    sections = re.split(r"^## (\S+)[^\n]*\n", changelog, flags=re.MULTILINE)
    found = dict(zip(sections[1::2], sections[2::2], strict=True)).get(version)
    return None if found is None or not found.strip() else f"{found.strip()}\n"


if __name__ == "__main__":
    raise SystemExit(main())
