"""Defects to plant in a torch wheel: what a release candidate could bring, each by itself.

Each is a few lines of Python put for others. Where a torch does not have these lines, planting
fails: a defect that is not there would be "not found" for the wrong reason. Tried on the sources of
torch 2.11.0, 2.14.0 and 2.15.0.

    python tests/planted.py WHEEL|VERSION FOLDER --as 2.11.1rc1 --defect codegen

plants in a wheel, or in the release of the package index that this Python would install.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.tags import Tag, sys_tags
from packaging.utils import parse_wheel_filename

from matrix.catalog.index import Index
from matrix.errors import MatrixError
from reversion import ReversionError, reversion


@dataclass(frozen=True, kw_only=True)
class Edit:
    """In a member of the wheel, `new` takes the place of the one `old`.

    `old` is one text, or several of which a torch has one: sources differ from release to release.
    """

    member: str
    old: tuple[str, ...]
    new: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One defect; `shows` says how a start of vLLM should show it."""

    name: str
    shows: str
    edits: tuple[Edit, ...]


def _edit(member: str, *pairs: tuple[str, str]) -> Edit:
    old, new = zip(*pairs, strict=True)
    return Edit(member=member, old=old, new=new)


# A value that every process has for itself: a key made with it never comes again.
_OF_THIS_PROCESS = '__import__("os").urandom(8).hex()'

AOT_KEY = Defect(
    name="aot-key",
    shows="AOTAutograd's cache misses on the warm start",
    edits=(
        _edit(
            "torch/_functorch/_aot_autograd/autograd_cache.py",
            (
                " + pickler.get_hash(details)\n",
                f" + pickler.get_hash(details) + {_OF_THIS_PROCESS}\n",
            ),
        ),
    ),
)

_CODEGEN = '        with dynamo_timed("Scheduler.codegen"):\n'
CODEGEN = Defect(
    name="codegen",
    shows="the cold start fails in Inductor's code generation",
    edits=(
        _edit(
            "torch/_inductor/scheduler.py",
            (
                _CODEGEN,
                _CODEGEN
                + '            raise AssertionError("buffer buf0 is freed before its last use")\n',
            ),
        ),
    ),
)

CACHES_OFF = Defect(
    name="caches-off",
    shows="AOTAutograd's and Inductor's caches are off unless someone asks for them",
    edits=(
        _edit(
            "torch/_functorch/config.py",
            (
                '    env_name_force="TORCHINDUCTOR_AUTOGRAD_CACHE",\n    default=True,\n',
                '    env_name_force="TORCHINDUCTOR_AUTOGRAD_CACHE",\n    default=False,\n',
            ),
        ),
        _edit(
            "torch/_inductor/config.py",
            (
                '    env_name_force="TORCHINDUCTOR_FX_GRAPH_CACHE",\n    default=True,\n',
                '    env_name_force="TORCHINDUCTOR_FX_GRAPH_CACHE",\n    default=False,\n',
            ),
        ),
    ),
)

# With each graph vLLM 0.26.0 saves the key that AOTAutograd's entry holds, and loads by it. No
# start makes this key again, so only the cache check finds it.
FX_KEY = Defect(
    name="fx-key",
    shows="Inductor's cache of graphs never hits in another process; vLLM's starts are as before",
    edits=(
        _edit(
            "torch/_inductor/codecache.py",
            (
                '    key = "f" + pickler.get_hash(details)\n    debug_lines',
                f'    key = "f" + pickler.get_hash(details) + {_OF_THIS_PROCESS}\n    debug_lines',
            ),
            (
                "    key = pickler.get_key(details)\n    debug_lines",
                f"    key = pickler.get_key(details) + {_OF_THIS_PROCESS}\n    debug_lines",
            ),
        ),
    ),
)

_STORED = "        (cache_key, debug_lines) = self.fx_graph_cache_info\n"
FX_LOAD = Defect(
    name="fx-load",
    shows="what AOTAutograd has saved finds no graph in Inductor's cache, where vLLM loads too",
    edits=(
        _edit(
            "torch/_functorch/_aot_autograd/aot_autograd_result.py",
            (_STORED, f"{_STORED}        cache_key += {_OF_THIS_PROCESS}\n"),
        ),
    ),
)

CPP_KEY = Defect(
    name="cpp-key",
    shows="each process compiles every C++ kernel once more; every counter as before",
    edits=(
        _edit(
            "torch/_inductor/codecache.py",
            (
                'extra=f"{optimized_code} {main_cmd_line}"',
                'extra=f"{optimized_code} {main_cmd_line} {os.urandom(8).hex()}"',
            ),
        ),
    ),
)

_DYNAMIC = "        t._dynamo_dynamic_indices.add(index)\n"
_RANGE = "        t._dynamo_dynamic_range.add(_DimRange(index, min, max))"
# A graph of one batch size serves the start, and no request of another size.
STATIC_SHAPES = Defect(
    name="static-shapes",
    shows="every counter as before; Inductor generates less code, for one size alone",
    edits=(
        _edit(
            "torch/_dynamo/decorators.py",
            (f"{_DYNAMIC}{_RANGE}", f"        return\n{_RANGE}"),
        ),
    ),
)

NO_FUSION = Defect(
    name="no-fusion",
    shows="Inductor fuses nothing: more kernels, a slower model, every counter as before",
    edits=(
        _edit("torch/_inductor/config.py", ("\nmax_fusion_size = 64\n", "\nmax_fusion_size = 1\n")),
    ),
)

DEFECTS = {
    defect.name: defect
    for defect in (
        *(AOT_KEY, CODEGEN, CACHES_OFF, FX_KEY, FX_LOAD, CPP_KEY, NO_FUSION),
        STATIC_SHAPES,
    )
}


def plant(
    wheel: Path,
    folder: Path,
    defects: Sequence[Defect],
    version: str | None = None,
    *,
    git_version: str | None = None,
) -> Path:
    """Copy a torch wheel into a folder with these defects, as `reversion` does; returns its path.

    Raises ReversionError where this torch does not have what a defect changes.
    """
    changed: dict[str, str] = {}
    with zipfile.ZipFile(wheel) as archive:
        for defect in defects:
            for edit in defect.edits:
                where = f"{wheel.name}: {edit.member}"
                if edit.member not in archive.namelist():
                    raise ReversionError(f"{where}: is not there, so {defect.name} cannot be")
                text = changed.get(edit.member) or archive.read(edit.member).decode()
                changed[edit.member] = _applied(text, edit, f"{where} ({defect.name})")
    replace = {name: text.encode() for name, text in changed.items()}
    return reversion(wheel, folder, version, git_version=git_version, replace=replace)


def _applied(text: str, edit: Edit, where: str) -> str:
    counts = [text.count(old) for old in edit.old]
    if sum(counts) != 1:
        raise ReversionError(f"{where}: has {sum(counts)} of the texts to change, not 1")
    chosen = counts.index(1)
    changed = text.replace(edit.old[chosen], edit.new[chosen])
    compile(changed, edit.member, "exec")
    return changed


def fetch_torch(version: str, folder: Path) -> Path:
    """Fetch the wheel of a torch release that this Python would install, about 500 MB.

    Raises ReversionError where the index has none.
    """
    tags = {str(tag): rank for rank, tag in enumerate(sys_tags())}
    index = Index()
    try:
        ranked = [
            (min(ranks), file)
            for file in index.files("torch")
            if file.is_wheel
            and file.version == version
            and (ranks := [tags[t] for t in map(str, _tags(file.filename)) if t in tags])
        ]
        if not ranked:
            raise ReversionError(f"torch {version}: the index has no wheel for this Python")
        return index.fetch(min(ranked, key=lambda one: one[0])[1], folder)
    finally:
        index.close()


def _tags(filename: str) -> frozenset[Tag]:
    return parse_wheel_filename(filename)[3]


def main(arguments: Sequence[str] | None = None) -> None:
    """Plant defects in a wheel of torch and print the path of the copy."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("wheel", help="a wheel, or a version to fetch into the folder")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--as", dest="version", help="the version of the copy")
    parser.add_argument("--git", metavar="SHA", help="the git revision of the copy")
    parser.add_argument("--defect", action="append", default=[], choices=sorted(DEFECTS))
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        wheel = Path(options.wheel)
        if not wheel.name.endswith(".whl"):
            wheel = fetch_torch(options.wheel, options.folder)
        defects = [DEFECTS[name] for name in options.defect]
        made = plant(wheel, options.folder, defects, options.version, git_version=options.git)
    except (MatrixError, ReversionError) as error:
        sys.exit(f"planted: {error}")
    print(made)


if __name__ == "__main__":
    main()
