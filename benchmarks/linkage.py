"""How long linkage takes: a pair and all pairs from tables, and wheels' files against `nm -D`.

    python benchmarks/linkage.py [--vllm 0.19.1] [--torch 2.10.0] [SITE_PACKAGES | WHEEL ...]

From tables it needs nothing else. With torch and vLLM installed, in its own environment (as in
`tox -e bench`) or in the named folder, or with a wheel of each (unpacked first, for both sides),
it also reads every shared object of both and links them, against `nm -D` on the same files: all
in one call, and a call a file. The files are warm; each figure is the least of the rounds, and all
that is compared runs in turns.
"""

import argparse
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from packaging.utils import parse_wheel_filename

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matrix.checks.linkage.elf import read_folder
from matrix.checks.linkage.link import Linkage, link, load_tables
from matrix.checks.linkage.tables import TorchSymbols, VllmSymbols, dump

_PYTHON = "3.12"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How long linkage takes.")
    parser.add_argument("paths", nargs="*", type=Path, metavar="SITE_PACKAGES|WHEEL")
    parser.add_argument("--vllm", default="0.19.1")
    parser.add_argument("--torch", default="2.10.0")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    _from_tables(options.vllm, options.torch, options.rounds)
    own = Path(sysconfig.get_path("platlib"))
    if not options.paths and (own / "torch" / "lib").is_dir() and (own / "vllm").is_dir():
        options.paths = [own]
    if options.paths:
        with tempfile.TemporaryDirectory(prefix="bench-linkage-") as scratch:
            folder = _unpacked(options.paths, Path(scratch))
            _from_files(folder, options.vllm, options.torch, options.rounds)
    return 0


def _from_tables(vllm: str, torch: str, rounds: int) -> None:
    def pair() -> Linkage:
        return load_tables().link(vllm, torch, _PYTHON)

    def every() -> int:
        tables = load_tables()
        return sum(
            tables.link(version, other, _PYTHON).ok
            for version in tables.vllm_versions
            for other in tables.torch_versions
        )

    tables = load_tables()
    pairs = len(tables.vllm_versions) * len(tables.torch_versions)
    command = [sys.executable, "-m", "matrix", "linkage", "--vllm", vllm, "--torch", torch]
    one, whole, started = _turns([pair, every, lambda: _run(command, (0, 1))], rounds)
    print(f"one pair from tables       {one * 1000:8.1f} ms")
    print(f"all {pairs} pairs from tables  {whole * 1000:8.1f} ms")
    print(f"the command, one pair      {started * 1000:8.1f} ms")


def _from_files(folder: Path, vllm: str, torch: str, rounds: int) -> None:
    def read() -> tuple[VllmSymbols, TorchSymbols]:
        importing, exporting = (
            read_folder(folder, "vllm", vllm),
            read_folder(folder, "torch", torch),
        )
        assert isinstance(importing, VllmSymbols)
        assert isinstance(exporting, TorchSymbols)
        return importing, exporting

    def linked() -> Linkage:
        importing, exporting = read()
        return link(importing, exporting, _PYTHON)

    def tables() -> int:
        return sum(len(dump(table)) for table in read())

    files = [
        str(path)
        for project in ("torch", "vllm")
        for path in sorted((folder / project).rglob("*.so*"))
        if path.is_file()
    ]
    size = sum(Path(file).stat().st_size for file in files)

    def each_alone() -> None:
        for file in files:
            _run(["nm", "-D", file])

    at_once, alone, ours, written = _turns(
        [lambda: _run(["nm", "-D", *files]), each_alone, linked, tables], rounds
    )
    print(f"\n{len(files)} shared objects, {size / 2**30:.2f} GiB: {linked().verdict}")
    for what, seconds in (
        ("nm -D, one call", at_once),
        ("nm -D, a call a file", alone),
        ("read and linked", ours),
        ("read into tables", written),
    ):
        print(
            f"{what:22} {seconds * 1000:8.1f} ms   {seconds / at_once:5.2f} of nm in one call"
            f"   {seconds / alone:5.2f} of nm a file"
        )


def _turns(tasks: list[Callable[[], object]], rounds: int) -> list[float]:
    """Return the least seconds of each task; they take turns, so a busy moment falls on all."""
    best = [float("inf")] * len(tasks)
    for _ in range(rounds + 1):  # the first warms the files
        for index, task in enumerate(tasks):
            began = time.perf_counter()
            task()
            best[index] = min(best[index], time.perf_counter() - began)
    return best


def _run(command: list[str], good: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    if done.returncode not in good:
        raise SystemExit(f"{command[:3]} ended with {done.returncode}")


def _unpacked(paths: list[Path], scratch: Path) -> Path:
    if len(paths) == 1 and paths[0].is_dir():
        return paths[0]
    for path in paths:
        project = parse_wheel_filename(path.name)[0]
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if ".so" in Path(name).suffixes and name.startswith(f"{project}/"):
                    archive.extract(name, scratch)
    return scratch


if __name__ == "__main__":
    raise SystemExit(main())
