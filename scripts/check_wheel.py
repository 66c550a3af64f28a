"""Build the sdist and the wheel, install each in an empty environment, and use it there.

    tox -e wheel [-- --keep DIR]

No command sees the checkout. Each must do what it says, or name in one line what it wants: an
extra, or a checkout. The wheel of the checkout and that of the sdist must hold the same files, the
published records among them, and neither tests nor the published table. Exit status: 0, or 1 with a
line for each fault. It takes uv and an index.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_SYMBOL = "_ZN3c1013MessageLoggerC1EPKciib"
_RECORD = "cpu/py311-torch210-vllm019.json"
_PUBLISHED = sum(1 for _ in (_ROOT / "results").glob("c*/*.json"))
_LARGEST = 8 << 20
"""Bytes of a wheel; two thirds of it are the symbol tables, by which `linkage` needs no network."""

_HELPS = """
import argparse
from matrix._util.paths import PUBLISHED
from matrix.cli import parser_of

def walk(parser, path):
    print(*path)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                walk(below, (*path, name))

print(PUBLISHED)
walk(parser_of([]), ())
"""
"""Prints where the published records are, and the names of each command."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A command, and what it prints without extras and with all of them.

    A command that wants something says so in one line on stderr, and exits with 2. With all extras
    one that asks the network is not tried.
    """

    command: str
    bare: str
    extras: str | None = None
    wants: bool = False
    wants_with_extras: bool = False
    asks_the_network: bool = False


_EXAMPLES = (
    Example(command="grid", bare="vLLM below, torch to the right"),
    Example(command="linkage --vllm 0.26 --torch 2.11", bare="vLLM 0.26.0"),
    Example(command=f"explain {_SYMBOL}", bare="vLLM 0.17.0 to 0.19.1 need it"),
    Example(command="recommend", bare="uv pip install"),
    Example(command="upgrade --from 0.19.1 --to 0.26.0", bare="compile cache"),
    Example(command="plan --stale --platform cuda", bare="to run"),
    Example(command="predict", bare="predicted correctly"),
    Example(command="check", bare="waivers"),
    Example(command="ci --format github", bare="cells not as expected"),
    Example(command="show PUBLISHED", bare="compatible"),
    Example(command="resolve py311-torch210-vllm019", bare="1 resolve, 0 do not"),
    Example(
        command="table --out table",
        bare="torch-vllm-matrix[table]",
        extras="index.html",
        wants=True,
    ),
    Example(
        command="results list",
        bare="torch-vllm-matrix[history,table]",
        extras=f"{_PUBLISHED} records",
        wants=True,
    ),
    Example(
        command="refresh --check",
        bare="torch-vllm-matrix[index]",
        wants=True,
        asks_the_network=True,
    ),
    Example(
        command="run py311-torch210-vllm019 --dry-run",
        bare="in a checkout of the matrix",
        wants=True,
        wants_with_extras=True,
    ),
    Example(
        command="bundle py311-torch210-vllm019 --out bundle",
        bare="from a checkout of the project",
        wants=True,
        wants_with_extras=True,
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, install and use both; return the exit status."""
    parser = argparse.ArgumentParser(description="Try the sdist and the wheel alone.")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="put the sdist and the wheel here")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        faults = list(_try(Path(folder), options.keep))
    for fault in faults:
        print(f"wheel: {fault}")
    return int(bool(faults))


def _try(folder: Path, keep: Path | None) -> Iterator[str]:
    """Yield what is wrong with the sdist and the wheel."""
    begun = time.monotonic()
    sdist, wheel = _build(folder / "dist")
    yield from _faults_of_files(wheel, folder)
    for name, what in (
        ("wheel", f"{wheel}"),
        ("wheel with all extras", f"{wheel}[all]"),
        ("sdist", f"{sdist}"),
    ):
        here = folder / name.replace(" ", "-")
        environment = _install(here, what)
        count = 0
        for fault in _faults_of_commands(environment, here, extras="[all]" in what):
            count += 1
            yield f"{name}: {fault}"
        if not count:
            print(f"wheel: {name}: every command works or says what it wants")
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for path in (sdist, wheel):
            shutil.copy(path, keep)
    print(f"wheel: tried in {time.monotonic() - begun:.0f} s")


def _build(folder: Path) -> tuple[Path, Path]:
    """Return the sdist, and the wheel that is built from it."""
    _run(["uv", "build", "-q", "-o", str(folder), str(_ROOT)])
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def _faults_of_files(wheel: Path, folder: Path) -> Iterator[str]:
    """Print what is in the wheel; yield what is missing and what does not belong there."""
    _run(["uv", "build", "-q", "--wheel", "-o", str(folder / "direct"), str(_ROOT)])
    (direct,) = (folder / "direct").glob("*.whl")
    files, others = _files(wheel), _files(direct)
    if other := sorted({*files.items()} ^ {*others.items()}):
        yield f"the sdist makes another wheel than the checkout does: {other[0][0]}"
    sizes: Counter[str] = Counter()
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            parts = member.filename.split("/")
            deep = 3 if parts[1] == "data" else 2
            sizes["/".join(parts[:deep])] += member.compress_size
    total = wheel.stat().st_size
    print(f"wheel: {wheel.name}: {_mb(total)}, {len(files)} files, of them")
    for name, size in sizes.most_common(5):
        print(f"wheel:   {_mb(size)} {name}")
    if total > _LARGEST:
        yield f"{_mb(total)} are more than {_mb(_LARGEST)}"
    wrong = [name for name in files if not name.startswith(("matrix/", "torch_vllm_matrix-"))]
    if wrong:
        yield f"{wrong[0]} does not belong into it"
    published = {
        path.relative_to(_ROOT / "results").as_posix()
        for path in (_ROOT / "results").glob("c*/*.json")
    }
    has = {name.removeprefix("matrix/data/published/") for name in files if "/published/" in name}
    if has != published:
        yield f"its published records are not those of results: {min(has ^ published)}"


def _files(wheel: Path) -> Mapping[str, int]:
    """Return the checksums of the files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {member.filename: member.CRC for member in archive.infolist()}


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _install(here: Path, what: str) -> Path:
    """Install a file in an empty environment in `here`; return the environment."""
    environment = here / "environment"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    _run(["uv", "venv", "-q", "--no-project", "-p", version, str(environment)])
    python = environment / "bin" / "python"
    path, bracket, extra = what.partition("[")
    name = f"torch-vllm-matrix{bracket}{extra} @ {Path(path).as_uri()}"
    _run(["uv", "pip", "install", "-q", "-p", str(python), name])
    return environment


def _faults_of_commands(environment: Path, here: Path, *, extras: bool) -> Iterator[str]:
    """Use each command in an empty folder; yield what does not work."""
    place = here / "place"
    place.mkdir()
    found = _ask(environment, place, ["-c", _HELPS], program="python").stdout.splitlines()
    published, *paths = (line.split() for line in found)
    helps = [[*path, "--help"] for path in paths]
    examples = [example for example in _EXAMPLES if not (extras and example.asks_the_network)]
    commands = [
        example.command.replace("PUBLISHED", f"{published[0]}/{_RECORD}").split()
        for example in examples
    ]
    with ThreadPoolExecutor(os.cpu_count() or 1) as workers:
        done = list(workers.map(lambda words: _ask(environment, place, words), helps + commands))
    if len(helps) < len(_EXAMPLES):
        yield f"only {len(helps)} commands are known"
    for words, ended in zip(helps, done, strict=False):
        if ended.returncode or not ended.stdout.startswith("usage: matrix"):
            yield f"matrix {' '.join(words)}: {_last(ended)}"
    for example, ended in zip(examples, done[len(helps) :], strict=True):
        if not _is_as_expected(example, ended, extras=extras):
            yield f"matrix {example.command}: exit status {ended.returncode}: {_last(ended)}"


def _is_as_expected(
    example: Example, done: subprocess.CompletedProcess[str], *, extras: bool
) -> bool:
    """Tell whether a command printed what it should, or named in one line what it wants."""
    wants = example.wants_with_extras if extras else example.wants
    text = (extras and example.extras) or example.bare
    # A line before it may say which records are read.
    lines = [line for line in done.stderr.splitlines() if " here, so the records " not in line]
    if wants:
        return done.returncode == 2 and len(lines) == 1 and text in lines[0]
    return done.returncode == 0 and lines == [] and text in done.stdout


def _ask(
    environment: Path, place: Path, arguments: Sequence[str], program: str = "matrix"
) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment in a folder, without variables that lead elsewhere."""
    keys = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR")
    return subprocess.run(
        [environment / "bin" / program, *arguments],
        cwd=place,
        env={key: os.environ[key] for key in keys if key in os.environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _last(done: subprocess.CompletedProcess[str]) -> str:
    return ((done.stderr or done.stdout).strip().splitlines() or ["it printed nothing"])[-1][:300]


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    raise SystemExit(main())
