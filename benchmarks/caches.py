"""What each cache saves of a command that people run: without it the command must be slower.

    python benchmarks/caches.py [NAME ...] [--rounds N] [--least SHARE]

Runs a command as it is and without one of its caches, in turns, each in a process of its own, and
prints the CPU seconds of the fastest of N rounds and the share that the cache saves. Exits with 1
where that is less than SHARE (default 0.02; two runs of one command differ by as much on a quiet
machine): then the cache is not worth its lines. NAME is a command as below, a cache, or a part of
its name. Needs the extras `history` and `table`.

Records are made up: 600 that are read by an index (`table`, `prune`, `stale`), and five runs of 30
cells that are read one by one (`read`, `index`). A round of all takes about two minutes.

A new cache belongs into this list, and stays only if it saves about 5 % of some command;
`tests/project/test_cache_benchmarks.py` fails where it is not here. Measured with Python 3.11 on a
busy machine, the fastest of two or three rounds:

    attribute  _is_met 10 %, _shared 8 %
    grid       _known 59 %, _linked 14 %, _misfits 9 %, _selected 8 %, _read 7 %, _hash_of 4 %
    index      digest_of_requirements 3 %, of few records
    linkage    _exporting 58 %, _tried 49 %, _importing 34 %, _wants 15 %, _is_apart 10 %,
               _missing 10 %
    plan       _here 5 %
    predict    by_case 9 %
    published  shares 20 %
    read       _of_line 26 %, _named 11 %, known_requirements 3 %
    stale      _by_cell 56 %
    sync       _torches 5 %, _vllms 5 %

The others, as how often a value was there already, times what it takes to compute, which is a
little too much:

    attribute  parse_version 20 %, load_startup_tests 12 %
    grid       rows 36 %, columns 15 %
    prune      _contains 19 %
    published  figures_of 11 %
    table      of 8,000 records: _pairs 23 %, markdown 19 %, code 5 %

Taken out, as less than 5 % of each command: the caches of parsed specifiers and their boundaries
(1 %), of rules by case (1.5 %), of looked-up expectations (0.1 %), of what is declared of a pair
(2 %), of the answers of linkage (1 %), of signatures (1 % of a table), of split lines (0.2 %), of
the folders of records (nothing), of the releases in a row (1 %), and two dozen properties.
"""

import argparse
import contextlib
import functools
import importlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_MADE = {"RECORDS": 600, "FEW": 150}
"""How many records are made: some that an index is made for, and some that are read one by one."""
_NIGHTS = 5  # of each cell of the few
_PLACES = {*_MADE, "OUT"}
_COMMANDS = {
    "grid": ("grid",),
    "plan": ("plan", "--stale"),
    "stale": ("plan", "--stale", "RECORDS"),
    "attribute": ("attribute", "--all"),
    "linkage": ("linkage",),
    "predict": ("predict",),
    "sync": ("sync", "--check"),
    "published": ("table", "--out", "OUT"),
    "read": ("table", "FEW", "--out", "OUT"),
    "index": ("results", "list", "FEW"),
    "table": ("table", "RECORDS", "--out", "OUT"),
    "prune": ("results", "prune", "RECORDS", "--keep", "30"),
}
_CACHES: Mapping[str, str] = {
    "matrix._util.text:code": "table",
    "matrix._util.text:markdown": "table",
    "matrix._util.versions:parse_version": "attribute",
    "matrix._util.versions:End.last": "table",
    "matrix._util.versions:VersionRange.boundaries": "grid",
    "matrix._util.versions:VersionRange.end": "table",
    "matrix._util.versions:_contains": "prune",
    "matrix._util.versions:_is_met": "attribute",
    "matrix._util.versions:_shared": "attribute",
    "matrix.catalog.releases:Releases._torches": "sync",
    "matrix.catalog.releases:Releases._vllms": "sync",
    "matrix.run.here:ThisMachine._by_cell": "stale",
    "matrix.run.here:ThisMachine._here": "plan",
    "matrix.store.ingest:digest_of_requirements": "index",
    "matrix.verdict.agreement:Agreement.shares": "published",
    "matrix.verdict.stock:_named": "read",
    "matrix.verdict.stock:_of_line": "read",
    "matrix.catalog.requirements:known_requirements": "read",
    "matrix.checks.declared:Declarations._misfits": "grid",
    "matrix.checks.linkage.link:Tables._exporting": "linkage",
    "matrix.checks.linkage.link:Tables._importing": "linkage",
    "matrix.checks.linkage.link:Tables._linked": "grid",
    "matrix.checks.linkage.link:Tables._read": "grid",
    "matrix.checks.linkage.link:Tables._wants": "linkage",
    "matrix.checks.linkage.link:_Exporting._missing": "linkage",
    "matrix.checks.linkage.link:_Exporting._tried": "linkage",
    "matrix.checks.linkage.link:_Importing._selected": "grid",
    "matrix.checks.linkage.link:_is_apart": "linkage",
    "matrix.checks.linkage.tables:_hash_of": "grid",
    "matrix.checks.resolution.cache:Resolutions._known": "grid",
    "matrix.record.startup_tests:load_startup_tests": "attribute",
    "matrix.report.page:_environment": "table",
    "matrix.rules.expectations:Expectations._asked": "table",
    "matrix.rules.expectations:Expectations._beside": "table",
    "matrix.rules.expectations:Rule.expects": "table",
    "matrix.rules.expectations:Rule.of_one_cell": "table",
    "matrix.verdict.agreement:Agreement.by_case": "predict",
    "matrix.verdict.agreement:Agreement.differences": "table",
    "matrix.verdict.agreement:Agreement.figures_of": "published",
    "matrix.verdict.grid:Grid.columns": "grid",
    "matrix.verdict.grid:Grid.rows": "grid",
    "matrix.verdict.table:Table._pairs": "table",
}
"""Each cache, as its module and the name in it, and the command that it serves best."""


class _Forgetful(dict[Any, Any]):
    """A dictionary that denies to have a key, so that each value is computed again."""

    def __contains__(self, key: object) -> bool:
        return False

    def setdefault(self, _: object, default: Any = None) -> Any:  # noqa: ANN401 (as in dict)
        return default


def main() -> int:
    parser = argparse.ArgumentParser(description="What each cache saves of a command.")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--least", type=float, default=0.02)
    options = parser.parse_args()
    chosen = {
        name: command
        for name, command in _CACHES.items()
        if not options.names or any(part in name or part == command for part in options.names)
    }
    useless = []
    with tempfile.TemporaryDirectory(prefix="matrix-bench-") as place:
        for command in dict.fromkeys(chosen.values()):
            names = [name for name, owner in chosen.items() if owner == command]
            arguments = _arguments(command, Path(place))
            seconds = _measured(names, arguments, options.rounds)
            usual = seconds.pop("")
            print(f"matrix {_COMMANDS[command][0]:58}{usual:7.3f} CPU s", flush=True)
            for name, without in seconds.items():
                share = 1 - usual / without
                print(f"  without {name:55}{without:7.3f}  saves {share:.1%}", flush=True)
                if share < options.least:
                    useless.append(name)
    for name in useless:
        print(f"{name} saves less than {options.least:.0%}: take it out")
    return 1 if useless else 0


def _arguments(command: str, place: Path) -> list[str]:
    from history import cells, make

    for word, count in _MADE.items():
        if word in _COMMANDS[command] and not (place / word).exists():
            names = cells()
            names = names[: count // _NIGHTS] if word == "FEW" else names
            make(place / word, names, -(-count // len(names)), count)
    return [str(place / word) if word in _PLACES else word for word in _COMMANDS[command]]


def _measured(names: Sequence[str], arguments: Sequence[str], rounds: int) -> dict[str, float]:
    """Return the least CPU seconds of the command as it is ("") and without each of the caches."""
    best: dict[str, float] = {}
    for _ in range(rounds + 1):  # the first compiles, and makes the index of the records
        for name in ("", *names):
            took = _cpu_seconds(name, arguments)
            best[name] = min(took, best.get(name, took))
    return best


def _cpu_seconds(name: str, arguments: Sequence[str]) -> float:
    program = "import sys; from caches import run; run(sys.argv[1], sys.argv[2:])"
    paths = os.pathsep.join([str(_ROOT), str(_ROOT / "benchmarks")])
    child = subprocess.Popen(
        [sys.executable, "-c", program, name, *arguments],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    errors = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if "Traceback" in errors:
        raise SystemExit(f"{arguments}, without {name or 'nothing'}: {errors}")
    return used.ru_utime + used.ru_stime


def run(name: str, arguments: Sequence[str]) -> None:
    """Run the command in this process without that cache."""
    if name:
        _disable(name)
    from matrix.cli import main as command

    with contextlib.redirect_stdout(io.StringIO()):
        command(list(arguments))


def _disable(name: str) -> None:
    """Take a cache out, also where a module has imported it already."""
    module_name, _, path = name.partition(":")
    module = importlib.import_module(module_name)
    owner, _, attribute = path.rpartition(".")
    if not owner:
        cached = getattr(module, attribute)
        ours = [
            found for loaded, found in sys.modules.items() if loaded.partition(".")[0] == "matrix"
        ]
        for other in ours:
            for key, value in list(vars(other).items()):
                if value is cached:
                    setattr(other, key, cached.__wrapped__)
        return
    holder: Any = getattr(module, owner)
    cached = vars(holder).get(attribute)
    if isinstance(cached, functools.cached_property):
        setattr(holder, attribute, property(cached.func))
        return
    make = holder.__init__

    def forget(self: object, *arguments: object, **named: object) -> None:
        make(self, *arguments, **named)
        assert isinstance(getattr(self, attribute), dict)
        object.__setattr__(self, attribute, _Forgetful())  # some are frozen

    holder.__init__ = forget


if __name__ == "__main__":
    sys.exit(main())
