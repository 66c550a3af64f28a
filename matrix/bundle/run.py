"""Run a cell from a bundle, without a network. A bundle carries this very file, as its `run.py`.

    python3 DIR/run.py CELL [the options of `matrix run`]

It needs only the standard library and `manifest.py` next to it, not even this project,
so that a bare machine can start it. First it checks every file of the bundle against the manifest;
where one is missing, short or damaged, it names that and unpacks, installs and runs nothing. The
packages go into an environment of their own, in a work folder that a second run uses again.
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
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING or __package__:
    from matrix.bundle.manifest import (
        BundleCell,
        BundleError,
        Manifest,
        Package,
        faults,
        open_regular,
        read_manifest,
    )
else:  # in a bundle: a package of this name on that machine may be another
    sys.path.insert(0, str(Path(__file__).resolve().parent))  # not there with -I, or PYTHONSAFEPATH
    from manifest import (
        BundleCell,
        BundleError,
        Manifest,
        Package,
        faults,
        open_regular,
        read_manifest,
    )

LEFT_OUT_FILE = "bundle_left_out.json"  # in an environment: what its bundle lacks or the target has
REWRITTEN = "bundle_rewritten.json"  # there too: the hash of each rewritten wheel, and its own
WHEELS = "bundle_wheels.json"  # there too: torch's and vLLM's wheel of the index, and its hash
CANDIDATES = "candidates/candidates.toml"  # in a bundle with candidates
_CELL = re.compile(r"py[0-9]{2,}-torch[0-9a-z]{2,}(-vllm[0-9a-z]{2,})?")
_BLOCK = 1 << 20
_LARGEST_PROGRAM = 1 << 30
# What zipfile raises for a damaged file: encrypted, of an unknown packing, cut short.
_BAD_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    KeyError,
    NotImplementedError,
    RuntimeError,
)
SILENCE = 8.0  # seconds without a line, after which one says what goes on
_COMPLETE = "whole"  # the file that marks an environment whose installation came to its end
# Another index, Python or environment must not reach the installer or the cell.
_OURS = "MATRIX_CANDIDATES"
_UV = {"UV_NO_CONFIG": "1", "UV_OFFLINE": "1", "UV_PYTHON_DOWNLOADS": "never"}
_FOREIGN = ("UV_", "PIP_", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "CONDA_PREFIX", _OURS)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as those of `matrix` are."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line. Raises BundleError."""
        line = message.removeprefix("argument ")
        raise BundleError(f"{line}; `{self.prog} --help` shows what it takes")


def main(arguments: Sequence[str] | None = None, bundle: Path | None = None) -> int:
    """Check a bundle and run one of its cells; returns 2 where that is not possible.

    Where it is possible, this process becomes the run, so that its exit status and its signals are
    the run's. `arguments` are those of `matrix run`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _Parser(
        usage="%(prog)s CELL [--bundle DIR] [--work DIR] [options of matrix run] [PYTEST ARGS]",
        description="Run a cell from a bundle, without a network.",
        allow_abbrev=False,
    )
    folder = parser.add_argument("--bundle", metavar="DIR", type=Path, default=bundle)
    folder.required, folder.help = bundle is None, "the folder of bundle.json"
    work = "where to unpack and install (default: in the user's cache folder)"
    parser.add_argument("--work", metavar="DIR", type=Path, help=work)
    cut = given.index("--") if "--" in given else len(given)
    try:
        options, rest = parser.parse_known_args(given[:cut])
        _run(options.bundle, options.work, [*rest, *given[cut:]])
    except BundleError as error:
        for line in str(error).splitlines():
            print(f"matrix: {line}", file=sys.stderr)
    except OSError as error:
        print(f"matrix: {error.filename or 'bundle'}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("matrix: interrupted", file=sys.stderr)
        return 130
    return 2


def _run(bundle: Path, work: Path | None, arguments: list[str]) -> None:
    """Check, unpack, install, and become the run; raises BundleError if one of these fails."""
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


def unfit(manifest: Manifest, cell: BundleCell) -> str | None:
    """Return why this Python on this machine cannot run the cell; None if it can."""
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
        raise BundleError(f"no cell named; this bundle contains {holds}")
    found = [
        cell for name, cell in manifest.cells.items() if named in (name, name.rpartition("-")[0])
    ]
    if not found:
        raise BundleError(f"cell {named!r} is not in this bundle, which contains {holds}")
    return next((cell for cell in found if cell.name == named), found[0])


def _unpacked(manifest: Manifest, bundle: Path, home: Path) -> Path:
    """Return the folder of the bundle's files; the bundle itself where it is not cut."""
    if not manifest.parts:
        return bundle.absolute()
    files = home / "files"
    if files.is_dir():
        print(f"matrix: unpacked already, in {files}", flush=True)
        return files
    with timed(f"unpacking {len(manifest.files)} files, {mib(_total(manifest))}", home):
        fresh = home / "files.unfinished"
        shutil.rmtree(fresh, ignore_errors=True)
        _untar(manifest, bundle, fresh)
        fresh.rename(files)
    return files


def _untar(manifest: Manifest, bundle: Path, folder: Path) -> None:
    unpacked = set()
    joined: Any = _Joined([bundle / part.name for part in manifest.parts])
    try:
        with (
            contextlib.closing(joined),
            tarfile.open(fileobj=joined, mode="r|", bufsize=_BLOCK) as tar,
        ):
            for member in tar:
                unpacked.add(_unpack(tar, member, manifest, bundle, folder))
    except (tarfile.TarError, EOFError, ValueError, KeyError) as error:
        raise BundleError(
            f"{bundle}: the parts are not an archive ({error}); make the bundle again"
        ) from None
    if lacking := sorted(manifest.files.keys() - unpacked):
        raise BundleError(f"{bundle}: the parts lack {lacking[0]}; make the bundle again")


def _unpack(
    tar: tarfile.TarFile, member: tarfile.TarInfo, manifest: Manifest, bundle: Path, folder: Path
) -> str:
    """Write a member of the archive where the manifest says; return its name.

    Raises BundleError for a link, and for any other content than the manifest's.
    """
    item = manifest.files.get(member.name)
    content = tar.extractfile(member) if member.isreg() else None
    if item is None or content is None or member.size != item.bytes:
        raise BundleError(
            f"{bundle}: the parts contain {member.name!r}, which does not belong to them"
        )
    path = folder / item.name
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        while block := content.read(_BLOCK):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != item.sha256:
        raise BundleError(f"{bundle}: the parts contain another {item.name}; make the bundle again")
    return item.name


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
                self._file = open_regular(self._left.pop(0))
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
        _copy_project(manifest, files, fresh)
        fresh.rename(project)
    uv = _installer(files / manifest.installer, home)
    lock = home / f"{cell.name}.txt"
    lock.write_text("".join(_line(line, manifest, files) for line in cell.lock), encoding="utf-8")
    environ = {**_environ(), **_UV, "UV_CACHE_DIR": str(home / "uv-cache")}
    wheels = sum(manifest.files[line.wheel].bytes for line in cell.lock)
    with timed(f"installing {len(cell.lock)} packages, {mib(wheels)} of wheels", home):
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
    site = _only((environment / "lib").glob("python*/site-packages"), "the environment")
    (site / "matrix_project.pth").write_text(f"{project}\n", encoding="utf-8")
    if cell.have:
        # An environment made from another environment looks at the packages of neither, but at
        # those of the Python below both, so this names the folders of this Python.
        folders = "".join(f"{folder}\n" for folder in _package_folders())
        (site / "matrix_target.pth").write_text(folders, encoding="utf-8")
    names = sorted({*cell.left_out, *cell.have})
    (environment / LEFT_OUT_FILE).write_text(json.dumps(names) + "\n", encoding="utf-8")
    items = [manifest.files[line.wheel] for line in cell.lock if line.by_file]
    rewritten = {item.sha256: item.published for item in items if item.published}
    (environment / REWRITTEN).write_text(json.dumps(rewritten) + "\n", encoding="utf-8")
    (environment / WHEELS).write_text(
        json.dumps(_wheels(manifest, cell, site)) + "\n", encoding="utf-8"
    )
    (environment / _COMPLETE).write_text(python, encoding="utf-8")
    return environment


def _only(found: Iterator[Path], where: str) -> Path:
    """Return the only path; raises BundleError if there is none, or several."""
    paths = list(found)
    if len(paths) != 1:
        raise BundleError(f"{where}: was not installed as wheels are; make the bundle again")
    return paths[0]


def _copy_project(manifest: Manifest, files: Path, folder: Path) -> None:
    """Copy the project: the files that the manifest names, and no others that lie there."""
    for name in manifest.files:
        place, _, rest = name.partition("/")
        if place == "project" and rest:
            (folder / rest).parent.mkdir(parents=True, exist_ok=True)
            with open_regular(files / name) as source, (folder / rest).open("wb") as copy:
                shutil.copyfileobj(source, copy, _BLOCK)


def _wheels(manifest: Manifest, cell: BundleCell, site: Path) -> dict[str, dict[str, str]]:
    """Return each release's wheel, its hash, and the hash of the RECORD that was left here."""
    found = {}
    for line in cell.lock:
        if line.name in ("torch", "vllm") and not line.by_file:
            item = manifest.files[line.wheel]
            record = _only(site.glob(f"{line.name}-*.dist-info/RECORD"), item.name)
            text = record.read_text(encoding="utf-8", errors="surrogateescape")
            own = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
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
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next(
                member
                for member in archive.infolist()
                if member.filename.endswith(".data/scripts/uv")
            )
            if member.file_size > _LARGEST_PROGRAM:
                raise ValueError(f"its uv has {mib(member.file_size)}")
            with archive.open(member) as source, uv.open("wb") as file:
                shutil.copyfileobj(source, file, _BLOCK)
    except StopIteration:
        raise BundleError(f"{wheel}: contains no uv; make the bundle again") from None
    except _BAD_ZIP as error:
        raise BundleError(f"{wheel}: is not a wheel ({error}); make the bundle again") from None
    uv.chmod(0o755)
    return uv


def _call(command: Sequence[str | Path], environ: Mapping[str, str]) -> None:
    done = subprocess.run(
        [*map(str, command)],
        env=dict(environ),
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        printed = "".join(char if char.isprintable() else " " for char in done.stderr)
        error = " ".join(printed.split()) or f"exit status {done.returncode}"
        raise BundleError(f"the packages cannot be installed: {error[:600]}")


def _package_folders() -> list[str]:
    names = ("site-packages", "dist-packages")
    return [place for place in sys.path if Path(place).name in names and Path(place).is_dir()]


def _environ() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Let one run at a time unpack and install; where another one does, say so and wait."""
    import fcntl

    with (home / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with timed(f"waiting for another run that unpacks or installs in {home}"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def timed(
    what: str, folder: Path | None = None, progress: Callable[[], str] | None = None
) -> Iterator[None]:
    """Print what begins and, at its end, how many seconds it took.

    Meanwhile nobody waits for more than ten seconds without a line; it has what went of the disk of
    `folder`, and what `progress` returns, such as `3 of 12 wheels`.
    """
    began, free, over = time.monotonic(), _free(folder), threading.Event()
    print(f"matrix: {what} ...", end=" ", flush=True)
    printed: list[str] = []

    def speak() -> None:
        while not over.wait(SILENCE):
            taken = max(free - _free(folder), 0)
            so_far = f", {mib(taken)} of disk so far" if taken >= _BLOCK else ""
            done = f", {progress()}" if progress is not None else ""
            printed.append(f"{time.monotonic() - began:.0f} s{done}{so_far}")
            print(f"\nmatrix: {what}: {printed[-1]} ...", end=" ", flush=True)

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    took = ""
    try:
        yield
        took = f"{'in all ' * bool(printed)}{time.monotonic() - began:.1f} s"
    finally:
        over.set()
        thread.join()
        print(took, flush=True)


def _free(folder: Path | None) -> int:
    """Return the bytes that are free on the disk of a folder; 0 if nobody knows."""
    with contextlib.suppress(OSError):
        return 0 if folder is None else shutil.disk_usage(folder).free
    return 0


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
