"""Make a bundle: resolve its cells, fetch their wheels, and write what a machine offline needs.

uv resolves and pip fetches, each with the index that it is set up for; no address is written down.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from matrix._util.files import digest_of, write_text
from matrix._util.paths import CHECKOUT
from matrix._util.text import mib
from matrix.bundle import plan as bundle
from matrix.bundle import run as offline
from matrix.bundle.fatbin import Pruned, parse_arch
from matrix.bundle.plan import BundlePlanError, Have
from matrix.bundle.run import MANIFEST, BundleCell, Item, Package, timed
from matrix.bundle.wheel import rewrite, write_project_wheel
from matrix.bundle.zip_writer import find_zstd
from matrix.catalog.cells import Cell
from matrix.catalog.releases import Releases
from matrix.checks.resolution.lock import Pinned, Target
from matrix.checks.resolution.resolver import resolve, run_program
from matrix.checks.resolution.uv_output import why_install_failed
from matrix.errors import MatrixError
from matrix.record import provenance

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Wanted", "fetch", "make_bundle", "refresh_bundle"]

_ROOT = CHECKOUT
_RUNNER = "run.py"
_PROJECT = "project/"
# All of the checkout that `matrix run` reads; what else it holds is not for a machine offline.
_TREE = ("matrix", "tests/startup", "pyproject.toml", "tox.ini", "README.md", "LICENSE")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Wanted:
    """What a bundle is to hold, and for which machine; `split` is in bytes.

    `repack`: wheels are packed again, with Zstandard. `reuse`: an older bundle, whose wheels need
    not be fetched and rewritten again.
    """

    cells: tuple[Cell, ...]
    target: Target
    gpu_arch: str | None = None
    have: tuple[Have, ...] = ()
    without: tuple[str, ...] = ()
    split: int | None = None
    repack: bool = False
    reuse: Path | None = None


@dataclass
class _Pool:
    """The wheels so far: where they lie, and by which hash the index knows one that was changed."""

    folder: Path
    published: dict[str, str] = field(default_factory=dict)
    older: dict[str, tuple[Path, Item]] = field(default_factory=dict)
    ready: set[str] = field(default_factory=set)

    def wheels(self) -> dict[tuple[str, str], str]:
        return bundle.wheel_of(each.name for each in self.folder.iterdir())


def make_bundle(wanted: Wanted, releases: Releases, out: Path, *, root: Path = _ROOT) -> None:
    """Make a bundle in the folder `out`; an older bundle there gives way once this one is whole.

    `root` is the checkout. Raises MatrixError where `out` holds something else, a cell does not
    resolve, a package has no wheel, or a have or a pattern fits nothing.
    """
    if not (root / "tests" / "startup").is_dir():
        raise MatrixError(f"{root}: no tests/startup here; run from a checkout of the project")
    bundle.one_python(wanted.cells)
    arch = parse_arch(wanted.gpu_arch) if wanted.gpu_arch else None
    zstd = find_zstd() if wanted.repack else None
    _check_out(out)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent) as name:
        made, files = Path(name, "bundle"), Path(name, "files")
        pool = _Pool(files / "wheels")
        pool.folder.mkdir(parents=True)
        made.mkdir()
        if wanted.reuse is not None:
            pool.older = _older_wheels(wanted.reuse, wanted.gpu_arch)
        cells = _cells(wanted, releases, pool)
        installer = _fetch_installer(wanted.target, pool)
        if arch is not None or zstd is not None:
            _shrink(pool, arch, zstd, keep=installer)
        project = _write_project(root, files)
        items = _items(files, pool.published)
        with timed("writing"):
            parts = _write_parts(files, items, made, wanted.split) if wanted.split else []
            if not parts:
                for each in files.iterdir():
                    each.rename(made / each.name)
            shutil.copyfile(Path(offline.__file__), made / _RUNNER)
            text = bundle.manifest_text(
                made=provenance.timestamp(datetime.now(timezone.utc)),
                target=wanted.target,
                gpu_arch=wanted.gpu_arch,
                installer=f"wheels/{installer}",
                without=wanted.without,
                cells=[
                    BundleCell(each.name, (*each.lock, project), each.have, each.left_out)
                    for each in cells
                ],
                files=items,
                parts=parts,
            )
            (made / MANIFEST).write_text(text, encoding="utf-8")
            _put_in_place(made, out)
    _report(out, items, parts)


def refresh_bundle(out: Path, *, root: Path = _ROOT) -> None:
    """Write the project of an existing bundle anew, and leave its wheels as they are.

    Raises MatrixError where `out` is no bundle.
    """
    try:
        manifest = offline.read_manifest(out)
    except offline.BundleError as error:
        raise BundlePlanError(str(error)) from error
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent) as name:
        files, made = Path(name, "files"), Path(name, "made")
        files.mkdir()
        made.mkdir()
        project = _write_project(root, files)
        items = _items(files)
        kept = [each for each in manifest.parts if not each.name.startswith("project-")]
        parts = []
        if manifest.parts:
            size = max(each.bytes for each in manifest.parts)
            parts = [*kept, *_write_project_parts(files, items, made, size)]
        else:
            (files / _PROJECT).rename(made / _PROJECT)
        data = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        data["made"] = provenance.timestamp(datetime.now(timezone.utc))
        text = bundle.refreshed(data, project, items, parts)
        for old in (*out.glob("project-[0-9]*"), out / _PROJECT):
            if old.exists():
                old.rename(Path(name, f"old-{old.name}"))
        for each in made.iterdir():
            each.rename(out / each.name)
        shutil.copyfile(Path(offline.__file__), out / _RUNNER)
        write_text(out / MANIFEST, text)


def fetch(pinned: Sequence[Pinned], target: Target, folder: Path) -> None:
    """Fetch the wheel of each pinned distribution for the target into a folder, by pip.

    pip compares the hashes. Raises MatrixError, which names the package, where there is none.
    """
    if not pinned:
        return
    if not importlib.util.find_spec("pip"):
        raise MatrixError(f"{sys.executable} has no pip, which fetches the wheels: install pip")
    lock = folder.parent / "fetch.txt"
    lock.write_text(
        "".join(
            f"{each.name}=={each.version} "
            + " ".join(f"--hash=sha256:{digest}" for digest in sorted(each.hashes))
            + "\n"
            for each in pinned
        ),
        encoding="utf-8",
    )
    major, minor = target.python.split(".")
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--require-hashes", "--only-binary", ":all:"),
        *("--implementation", "cp", "--python-version", target.python),
        *("--abi", f"cp{major}{minor}", "--abi", "abi3", "--abi", "none"),
        *(each for tag in target.pip_platforms for each in ("--platform", tag)),
        *("--dest", str(folder), "-r", str(lock)),
    ]
    done = run_program(command)
    lock.unlink()
    if done.returncode:
        raise MatrixError(f"the wheels cannot be fetched: {_reason(done.stderr)}")


def _cells(wanted: Wanted, releases: Releases, pool: _Pool) -> list[BundleCell]:
    locks: dict[str, dict[str, Pinned]] = {}
    for cell in wanted.cells:
        with timed(f"resolving {cell.name}"):
            asked = bundle.requirements(cell, releases.companions(cell))
            try:
                locks[cell.name] = resolve(asked, wanted.target, releases.overrides(cell))
            except MatrixError as error:
                raise MatrixError(f"{cell.name}: {error}") from error
    wrong = [bundle.unfit_have(each, locks) for each in wanted.have]
    wrong.append(bundle.unmatched(wanted.without, locks))
    if line := next((each for each in wrong if each), None):
        raise BundlePlanError(line)
    found = []
    for name, lock in locks.items():
        have, out = bundle.left_out(lock, wanted.have, wanted.without)
        kept = [each for each in lock.values() if each.name not in {*have, *out}]
        for each in kept:
            _take_older(each, pool)
        lacking = [each for each in kept if (each.name, each.version) not in pool.wheels()]
        with timed(f"fetching {len(lacking)} of {len(kept)} wheels of {name}"):
            fetch(lacking, wanted.target, pool.folder)
        wheels = pool.wheels()
        packages = tuple(
            Package(each.name, each.version, f"wheels/{wheels[each.name, each.version]}")
            for each in kept
        )
        found.append(BundleCell(name, packages, have, out))
    return found


def _older_wheels(reuse: Path, gpu_arch: str | None) -> dict[str, tuple[Path, Item]]:
    """The wheels of an older bundle, by the hash that the index knows each by."""
    try:
        manifest = offline.read_manifest(reuse)
    except offline.BundleError as error:
        raise BundlePlanError(f"--reuse: {error}") from None
    if manifest.parts or manifest.gpu_arch != gpu_arch:
        why = "is cut into parts" if manifest.parts else f"is for --gpu-arch {manifest.gpu_arch}"
        raise BundlePlanError(f"--reuse {reuse}: {why}; name a bundle without, or leave it out")
    wheels = [each for each in manifest.files.values() if each.name != manifest.installer]
    return {each.published or each.sha256: (reuse / each.name, each) for each in wheels}


def _take_older(pinned: Pinned, pool: _Pool) -> None:
    for digest in pinned.hashes & pool.older.keys():
        path, item = pool.older[digest]
        if not path.is_file() or digest_of(path) != item.sha256:
            raise BundlePlanError(f"--reuse: {path} is missing or damaged; leave --reuse out")
        if path.name not in pool.ready:
            _link(path, pool.folder / path.name)
        pool.ready.add(path.name)
        if item.published is not None:
            pool.published[path.name] = item.published


def _link(path: Path, copy: Path) -> None:
    try:
        os.link(path, copy)
    except OSError:  # on another disk
        shutil.copyfile(path, copy)


def _fetch_installer(target: Target, pool: _Pool) -> str:
    """Fetch uv for the target, which installs the rest there; returns its wheel's name."""
    with timed("fetching uv"):
        (uv,) = resolve(["uv"], target).values()
        if (uv.name, uv.version) not in pool.wheels():
            fetch([uv], target, pool.folder)
    return pool.wheels()[uv.name, uv.version]


def _shrink(pool: _Pool, arch: int | None, zstd: str | None, keep: str) -> None:
    """Rewrite the wheels, all but the installer's, which zipfile opens on the target."""
    before = _size(pool.folder)

    def shrink(wheel: Path) -> tuple[Path, str, Pruned] | None:
        published = digest_of(wheel)
        pruned = rewrite(wheel, arch, zstd)
        return None if pruned is None else (wheel, published, pruned)

    total = Pruned()
    with timed("rewriting the wheels"):
        wheels = [each for each in pool.folder.iterdir() if each.name not in {keep, *pool.ready}]
        wheels.sort(key=lambda each: -each.stat().st_size)
        with ThreadPoolExecutor(os.cpu_count() or 1) as workers:
            for done in workers.map(shrink, wheels):
                if done:
                    pool.published[done[0].name] = done[1]
                    total += done[2]
    print(
        f"matrix: {len(pool.published)} wheels rewritten, {mib(before)} are now"
        f" {mib(_size(pool.folder))}; GPU code: {mib(total.kept)} kept,"
        f" {mib(total.dropped)} dropped; of {total.fatbins} fatbins {total.other} kept a near"
        f" image or PTX, {total.none} had nothing for this chip"
    )


def _write_project(root: Path, files: Path) -> Package:
    """Write the project's tree and its wheel, and note the commit of the checkout."""
    tree = files / _PROJECT
    tree.mkdir()
    for name in _TREE:
        source = root / name
        if source.is_dir():
            shutil.copytree(
                source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
            )
        elif source.is_file():
            shutil.copyfile(source, tree / name)
    provenance.note_commit(tree, provenance.commit(root))
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = {"console_scripts": project["scripts"], **project["entry-points"]}
    wheel = write_project_wheel(tree, project["name"], project["version"], points)
    return Package(project["name"], project["version"], f"{_PROJECT}{wheel.name}")


def _items(files: Path, published: Mapping[str, str] | None = None) -> list[Item]:
    paths = sorted(each for each in files.rglob("*") if each.is_file())
    with ThreadPoolExecutor(os.cpu_count() or 1) as workers:
        digests = list(workers.map(digest_of, paths))
    return [
        Item(
            path.relative_to(files).as_posix(),
            path.stat().st_size,
            digest,
            (published or {}).get(path.name),
        )
        for path, digest in zip(paths, digests, strict=True)
    ]


def _write_parts(files: Path, items: Sequence[Item], folder: Path, size: int) -> list[Item]:
    """One archive of the files, cut into parts of that many bytes.

    The wheels come first and the project begins a part of its own, so that it alone can be written
    anew.
    """
    project = [each for each in items if each.name.startswith(_PROJECT)]
    wheels = _Parts(folder, size, "part")
    archive = _tar(wheels)
    for item in items:
        if item not in project:
            _add(archive, files, item)
            (files / item.name).unlink()
    # Not closed: the archive goes on in the parts of the project.
    return [*wheels.done(), *_write_project_parts(files, project, folder, size)]


def _write_project_parts(files: Path, items: Sequence[Item], folder: Path, size: int) -> list[Item]:
    parts = _Parts(folder, size, "project")
    with _tar(parts) as archive:
        for item in items:
            _add(archive, files, item)
    return parts.done()


def _tar(parts: _Parts) -> tarfile.TarFile:
    return tarfile.TarFile(mode="w", fileobj=parts, format=tarfile.PAX_FORMAT)  # type: ignore[arg-type]


def _add(archive: tarfile.TarFile, files: Path, item: Item) -> None:
    info = tarfile.TarInfo(item.name)
    info.size = item.bytes
    with (files / item.name).open("rb") as file:
        archive.addfile(info, file)


class _Parts:
    """A file that is written as several, one after the other, each with its SHA-256."""

    def __init__(self, folder: Path, size: int, name: str) -> None:
        self._folder, self._size, self._stem = folder, size, name
        self._items: list[Item] = []
        self._begin()

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        while left:
            if self._written == self._size:
                self._end()
                self._begin()
            block = left[: self._size - self._written]
            self._file.write(block)
            self._digest.update(block)
            self._written += len(block)
            left = left[len(block) :]
        return len(data)

    def tell(self) -> int:
        return sum(each.bytes for each in self._items) + self._written

    def done(self) -> list[Item]:
        self._end()
        return self._items

    def _begin(self) -> None:
        self._name = f"{self._stem}-{len(self._items):03d}"
        self._file = (self._folder / self._name).open("wb")
        self._digest = hashlib.sha256()
        self._written = 0

    def _end(self) -> None:
        self._file.close()
        self._items.append(Item(self._name, self._written, self._digest.hexdigest()))


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise BundlePlanError(f"--out {out}: is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise BundlePlanError(f"--out {out}: is not empty and no bundle; name another folder")


def _put_in_place(made: Path, out: Path) -> None:
    if out.is_dir():
        out.rename(made.with_name("old"))  # gone with the folder that holds it
    made.rename(out)


def _report(out: Path, items: Sequence[Item], parts: Sequence[Item]) -> None:
    size = sum(each.bytes for each in parts or items)
    what = f"{len(parts)} parts" if parts else f"{len(items)} files"
    print(f"matrix: {out}: {what}, {mib(size)}; the largest:")
    for item in sorted(items, key=lambda item: -item.bytes)[:8]:
        print(f"  {mib(item.bytes):>12}  {Path(item.name).name}")
    print(f"run it there: python3 {out}/{_RUNNER} CELL")


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return why_install_failed("\n".join(errors[-1:] or lines[-1:])).reason


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.iterdir())
