"""Run a cell from a bundle, without a network. A bundle carries this very file, as its `run.py`.

    python3 DIR/run.py CELL [the options of `matrix run`]

It needs the standard library and nothing else, not even this project, so that a bare machine can
start it. First it checks every file of the bundle against the manifest; where one is missing, short
or damaged, it names that and unpacks, installs and runs nothing. The packages go into an
environment of their own, in a work folder that a second run uses again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import IO, Any

MANIFEST = "bundle.json"
LEFT_OUT = "bundle_left_out.json"  # in an environment: what its bundle lacks, or the target has
REWRITTEN = "bundle_rewritten.json"  # there too: the hash of each rewritten wheel, and its own
WHEELS = "bundle_wheels.json"  # there too: torch's and vLLM's wheel of the index, and its hash
CANDIDATES = "candidates/candidates.toml"  # in a bundle with candidates
SCHEMA = 1
_CELL = re.compile(r"py[0-9]{2,}-torch[0-9a-z]{2,}(-vllm[0-9a-z]{2,})?")
_BLOCK = 1 << 20
_COMPLETE = "whole"  # the file that marks an environment whose installation came to its end
# Another index, Python or environment must not reach the installer or the cell.
_OURS = "MATRIX_CANDIDATES"
_UV = {"UV_NO_CONFIG": "1", "UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never"}
_FOREIGN = ("UV_", "PIP_", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "CONDA_PREFIX", _OURS)


class BundleError(Exception):
    """Why a bundle cannot run here, in clear lines; the command line exits with 2."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A file of the bundle, or a part of it: its name, its bytes, its SHA-256 in hex.

    `published` is the SHA-256 by which the index knows a wheel that the bundle rewrote.
    """

    name: str
    bytes: int
    sha256: str
    published: str | None = None


@dataclass(frozen=True, kw_only=True)
class Package:
    """A line of a cell's lock: a distribution, its version and the file to install it from.

    `wheel` is the name of a file of the bundle. `by_file`: no version tells it from a release.
    """

    name: str
    version: str
    wheel: str
    by_file: bool = False


@dataclass(frozen=True, kw_only=True)
class BundleCell:
    """A cell: its lock, what the target must have, what is left out, its candidates by project."""

    name: str
    lock: tuple[Package, ...]
    have: Mapping[str, str]
    left_out: Mapping[str, str]
    candidates: Mapping[str, Mapping[str, str]] | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle holds and for which machine. `glibc` is the oldest that its wheels accept.

    `digest` is the SHA-256 of the manifest itself; the items of `parts`, where there are any,
    are the bundle's files in one archive, cut.
    """

    digest: str
    made: str
    python: str
    machine: str
    glibc: str
    gpu_arch: str | None
    installer: str
    cells: Mapping[str, BundleCell]
    files: Mapping[str, Item]
    parts: tuple[Item, ...]


def main(arguments: Sequence[str] | None = None, bundle: Path | None = None) -> int:
    """Check a bundle and run one of its cells; returns 2 where that is not possible.

    Where it is possible, this process becomes the run, so that its exit status and its signals are
    the run's. `arguments` are those of `matrix run`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        usage="%(prog)s CELL [--bundle DIR] [--work DIR] [options of matrix run] [PYTEST ARGS]",
        description="Run a cell from a bundle, without a network.",
        allow_abbrev=False,
    )
    folder = parser.add_argument("--bundle", metavar="DIR", type=Path, default=bundle)
    folder.required, folder.help = bundle is None, "the folder of bundle.json"
    work = "where to unpack and install (default: in the user's cache folder)"
    parser.add_argument("--work", metavar="DIR", type=Path, help=work)
    cut = given.index("--") if "--" in given else len(given)
    options, rest = parser.parse_known_args(given[:cut])
    try:
        _run(options.bundle, options.work, [*rest, *given[cut:]])
    except BundleError as error:
        for line in str(error).splitlines():
            print(f"matrix: {line}", file=sys.stderr)
    except OSError as error:
        print(f"matrix: {error.filename or 'bundle'}: {error.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        print("matrix: interrupted", file=sys.stderr)
        return 130
    return 2


def _run(bundle: Path, work: Path | None, arguments: list[str]) -> None:
    """Check, unpack, install, and become the run; raises BundleError where one of these fails."""
    manifest = read_manifest(bundle)
    cell = _chosen(manifest, arguments)
    if reason := unfit(manifest, cell):
        raise BundleError(reason)
    with timed(f"checking {mib(sum(part.bytes for part in manifest.parts) or _total(manifest))}"):
        wrong = faults(manifest, bundle)
    if wrong:
        raise BundleError("\n".join(wrong))
    home = (work or _cache_folder()).absolute() / f"bundle-{manifest.digest[:16]}"
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home):
        files = _unpacked(manifest, bundle, home)
        environment = _installed(manifest, cell, bundle, files, home)
    programs = environment / "bin"
    path = os.pathsep.join([str(programs), *filter(None, [os.environ.get("PATH")])])
    command = str(programs / "matrix")
    environ = {**_environ(), "PATH": path}
    if CANDIDATES in manifest.files:
        environ[_OURS] = str(files / CANDIDATES)
    sys.stdout.flush()
    os.execve(command, [command, "run", "--here", *arguments], environ)


def read_manifest(bundle: Path) -> Manifest:
    """Read a bundle's manifest.

    Raises BundleError, which names the file and the key, where it is missing or not valid.
    """
    path = bundle / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); is this a bundle?") from None
    try:
        data = json.loads(text)
        if data["schema"] != SCHEMA:
            raise BundleError(
                f"{path}: schema: {data['schema']!r} is not {SCHEMA}; make the bundle again"
            )
        return _manifest(data, hashlib.sha256(text).hexdigest())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise BundleError(f"{path}: is not a manifest ({why}); copy it again") from None


def _manifest(data: Mapping[str, Any], digest: str) -> Manifest:
    files = {file["name"]: _item(file) for file in data["files"]}
    cells = {name: _cell(name, cell) for name, cell in data["cells"].items()}
    named = {package.wheel for cell in cells.values() for package in cell.lock}
    if unknown := sorted((named | {data["installer"]}) - files.keys()):
        raise ValueError(f"files: {unknown[0]!r} is missing")
    return Manifest(
        digest=digest,
        made=data["made"],
        python=data["python"],
        machine=data["machine"],
        glibc=data["glibc"],
        gpu_arch=data["gpu_arch"],
        installer=data["installer"],
        cells=cells,
        files=files,
        parts=tuple(_item(part) for part in data["parts"]),
    )


def _cell(name: str, data: Mapping[str, Any]) -> BundleCell:
    lock = tuple(Package(**line) for line in data["lock"])
    facts = {key: dict(data[key]) for key in ("have", "left_out")}
    return BundleCell(name=name, lock=lock, candidates=data.get("candidates"), **facts)


def _item(data: Mapping[str, Any]) -> Item:
    item = Item(**data)
    path = PurePosixPath(item.name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"the name {item.name!r} leaves the bundle")
    return item


def faults(manifest: Manifest, bundle: Path) -> list[str]:
    """Read the bundle's files, or its parts, to their ends; return what is wrong, a line each."""
    items = manifest.parts or tuple(manifest.files.values())
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda item: _fault(item, bundle / item.name), items)
        return [line for line in found if line]


def _fault(item: Item, path: Path) -> str | None:
    try:
        size = path.stat().st_size
        if size != item.bytes:
            what = "cut short" if size < item.bytes else "too long"
            return f"{path}: {what}, {size} bytes and not {item.bytes}; copy it again"
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except FileNotFoundError:
        return f"{path}: missing; copy it again"
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror}); copy it again"
    if digest.hexdigest() != item.sha256:
        return f"{path}: damaged, its SHA-256 is not the manifest's; copy it again"
    return None


def unfit(manifest: Manifest, cell: BundleCell) -> str | None:
    """Return why this Python on this machine cannot run the cell; None where it can."""
    python = ".".join(map(str, sys.version_info[:2]))
    if python != manifest.python:
        return (
            f"this bundle is for Python {manifest.python} and this is {python};"
            f" use python{manifest.python}"
        )
    machine = platform.machine()
    if (sys.platform, machine) != ("linux", manifest.machine):
        return f"this bundle is for linux {manifest.machine}, and this is {sys.platform} {machine}"
    name, libc = platform.libc_ver()
    if name != "glibc" or _numbers(libc) < _numbers(manifest.glibc):
        there = f"{name} {libc}".strip() or "another C library"
        return f"this bundle needs glibc {manifest.glibc} or newer, and this machine has {there}"
    for have, version in sorted(cell.have.items()):
        found = _version_of(have)
        if found is None or found.partition("+")[0] != version:
            return (
                f"this bundle leaves out {have} {version}, and {sys.executable} has"
                f" {have + ' ' + found if found else 'no ' + have}; run it with a Python that has"
                f" it, or make a bundle without --have {have}=={version}"
            )
    return None


def _chosen(manifest: Manifest, arguments: Sequence[str]) -> BundleCell:
    """Return the cell that the arguments name, by its full name or its short one."""
    holds = ", ".join(sorted(manifest.cells))
    named = next((text for text in arguments if _CELL.fullmatch(text)), None)
    if named is None:
        raise BundleError(f"no cell named; this bundle holds {holds}")
    found = [
        cell for name, cell in manifest.cells.items() if named in (name, name.rpartition("-")[0])
    ]
    if not found:
        raise BundleError(f"cell {named!r} is not in this bundle, which holds {holds}")
    return next((cell for cell in found if cell.name == named), found[0])


def _unpacked(manifest: Manifest, bundle: Path, home: Path) -> Path:
    """Return the folder of the bundle's files; the bundle itself where it is not cut."""
    if not manifest.parts:
        return bundle.absolute()
    files = home / "files"
    if files.is_dir():
        print(f"matrix: unpacked already, in {files}", flush=True)
        return files
    with timed(f"unpacking {len(manifest.files)} files, {mib(_total(manifest))}"):
        fresh = home / "files.unfinished"
        shutil.rmtree(fresh, ignore_errors=True)
        _untar(manifest, bundle, fresh)
        fresh.rename(files)
    return files


def _untar(manifest: Manifest, bundle: Path, folder: Path) -> None:
    unpacked = set()
    joined: Any = _Joined([bundle / part.name for part in manifest.parts])
    with contextlib.closing(joined), tarfile.open(fileobj=joined, mode="r|", bufsize=_BLOCK) as tar:
        for member in tar:
            item = manifest.files.get(member.name)
            content = tar.extractfile(member)
            if item is None or content is None or member.size != item.bytes:
                raise BundleError(f"{bundle}: the parts hold {member.name!r}, which is not theirs")
            path = folder / item.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                shutil.copyfileobj(content, file, _BLOCK)
            unpacked.add(item.name)
    if lacking := sorted(manifest.files.keys() - unpacked):
        raise BundleError(f"{bundle}: the parts lack {lacking[0]}; make the bundle again")


class _Joined:
    """Several files read as one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._left = list(paths)
        self._file: IO[bytes] | None = None

    def read(self, size: int) -> bytes:
        blocks: list[bytes] = []
        while size > 0:
            if self._file is None:
                if not self._left:
                    break
                self._file = self._left.pop(0).open("rb")
            block = self._file.read(size)
            if not block:
                self.close()
            blocks.append(block)
            size -= len(block)
        return b"".join(blocks)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _installed(manifest: Manifest, cell: BundleCell, bundle: Path, files: Path, home: Path) -> Path:
    """Return the cell's environment; makes it where there is no complete one yet."""
    python = f"{sys.version}\n{sys.prefix}\n"
    key = hashlib.sha256(python.encode()).hexdigest()[:8]
    environment = home / f"{cell.name}-{key}"
    if (environment / _COMPLETE).is_file():
        print(f"matrix: installed already, in {environment}", flush=True)
        return environment
    shutil.rmtree(environment, ignore_errors=True)
    project = home / "project"
    if not project.is_dir():
        fresh = home / "project.unfinished"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(files / "project", fresh)
        fresh.rename(project)
    uv = _installer(files / manifest.installer, home)
    lock = home / f"{cell.name}.txt"
    lock.write_text("".join(_line(line, manifest, files) for line in cell.lock), encoding="utf-8")
    environ = {**_environ(), **_UV, "UV_CACHE_DIR": str(home / "uv-cache")}
    with timed(f"installing {len(cell.lock)} packages"):
        _call([uv, "venv", "-q", "--python", sys.executable, environment], environ)
        _call(
            [
                *(uv, "pip", "install", "-q", "--python", environment / "bin" / "python"),
                *("--no-index", "--no-deps", "--find-links", files / "wheels"),
                *("--find-links", files / "project"),
                *("--require-hashes", "--only-binary", ":all:", "-r", lock),
            ],
            environ,
        )
    (site,) = (environment / "lib").glob("python*/site-packages")
    (site / "matrix_project.pth").write_text(f"{project}\n", encoding="utf-8")
    if cell.have:
        # An environment made from another environment looks at the packages of neither, but at
        # those of the Python below both, so this names the folders of this Python.
        folders = "".join(f"{folder}\n" for folder in _package_folders())
        (site / "matrix_target.pth").write_text(folders, encoding="utf-8")
    names = sorted({*cell.left_out, *cell.have})
    (environment / LEFT_OUT).write_text(json.dumps(names) + "\n", encoding="utf-8")
    items = [manifest.files[line.wheel] for line in cell.lock if line.by_file]
    rewritten = {item.sha256: item.published for item in items if item.published}
    (environment / REWRITTEN).write_text(json.dumps(rewritten) + "\n", encoding="utf-8")
    (environment / WHEELS).write_text(
        json.dumps(_wheels(manifest, cell, site)) + "\n", encoding="utf-8"
    )
    (environment / _COMPLETE).write_text(python, encoding="utf-8")
    return environment


def _wheels(manifest: Manifest, cell: BundleCell, site: Path) -> dict[str, dict[str, str]]:
    """Return each release's wheel, its hash, and the hash of the RECORD that was left here."""
    found = {}
    for line in cell.lock:
        if line.name in ("torch", "vllm") and not line.by_file:
            item = manifest.files[line.wheel]
            (record,) = site.glob(f"{line.name}-*.dist-info/RECORD")
            own = hashlib.sha256(record.read_text(encoding="utf-8").encode()).hexdigest()
            known = item.published or item.sha256
            found[line.name] = {"file": Path(item.name).name, "sha256": known, "record": own}
    return found


def _line(line: Package, manifest: Manifest, files: Path) -> str:
    """Return a line for the installer: a package by its version, or a candidate's by its file."""
    file, digest = files / line.wheel, f"sha256:{manifest.files[line.wheel].sha256}"
    # uv notes the hash of a file of this machine only as it stands in the address.
    address = f" @ {file.as_uri()}#{digest.replace(':', '=')}"
    return f"{line.name}{address if line.by_file else f'=={line.version}'} --hash={digest}\n"


def _installer(wheel: Path, home: Path) -> Path:
    """Return the program uv, taken out of its wheel."""
    uv = home / "uv"
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        with archive.open(name) as source, uv.open("wb") as file:
            shutil.copyfileobj(source, file, _BLOCK)
    uv.chmod(0o755)
    return uv


def _call(command: Sequence[str | Path], environ: Mapping[str, str]) -> None:
    done = subprocess.run(
        [*map(str, command)], env=dict(environ), capture_output=True, text=True, check=False
    )
    if done.returncode:
        error = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise BundleError(f"the packages cannot be installed: {error[:600]}")


def _package_folders() -> list[str]:
    names = ("site-packages", "dist-packages")
    return [place for place in sys.path if Path(place).name in names and Path(place).is_dir()]


def _environ() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Let one run at a time unpack and install."""
    import fcntl

    with (home / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Print what begins and, at its end, how many seconds it took."""
    began = time.monotonic()
    print(f"matrix: {what} ...", end=" ", flush=True)
    try:
        yield
    except BaseException:
        print(flush=True)
        raise
    print(f"{time.monotonic() - began:.1f} s", flush=True)


def _cache_folder() -> Path:
    home = os.environ.get("HOME")
    base = os.environ.get("XDG_CACHE_HOME") or (home and f"{home}/.cache")
    return Path(base or tempfile.gettempdir(), "torch-vllm-matrix")


def _version_of(name: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _total(manifest: Manifest) -> int:
    return sum(file.bytes for file in manifest.files.values())


def mib(size: int) -> str:
    """Return a size in bytes as people read it: `58.0 MiB`."""
    return f"{size / 2**20:.1f} MiB"


if __name__ == "__main__":
    sys.exit(main(bundle=Path(__file__).resolve().parent))
