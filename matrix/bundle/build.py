"""Make a bundle: resolve its cells, fetch their wheels, and write what a machine offline needs.

uv resolves and pip fetches, each with the index that it is set up for; no address is written down.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from matrix._util.files import check_folder, digest_of, write_text
from matrix._util.own_version import version
from matrix._util.paths import CHECKOUT
from matrix._util.text import mib
from matrix.bundle import plan, run
from matrix.bundle.candidates import (
    candidates_of,
    link_or_copy,
    name_in_bundle,
    remove_unused,
    staged,
    unfit_have,
    write_candidates_file,
    written_down,
)
from matrix.bundle.fatbin import Pruned
from matrix.bundle.manifest import (
    MANIFEST,
    BundleCell,
    BundleError,
    BundleItem,
    Manifest,
    Package,
    read_manifest,
)
from matrix.bundle.parts import PROJECT, write_parts, write_project_parts
from matrix.bundle.plan import BundlePlanError, Have
from matrix.bundle.run import CANDIDATES, timed
from matrix.bundle.wheel import ProjectMetadata, rewrite, write_project_wheel, zstd_zipfile
from matrix.catalog.candidates.model import File
from matrix.catalog.cells import Cell
from matrix.catalog.releases import Releases
from matrix.checks.gpu_code.images import parse_arch
from matrix.checks.resolution.lock import Pinned, Target
from matrix.checks.resolution.resolver import resolve, run_program
from matrix.checks.resolution.uv_output import why_install_failed
from matrix.errors import MatrixError
from matrix.record import provenance

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_ROOT = CHECKOUT
_RUNNER = "run.py"
# All of the checkout that `matrix run` reads; a machine without a network needs nothing else of it.
_TREE = ("matrix", "tests/startup", "pyproject.toml", "tox.ini", "README.md", "LICENSE")
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class BundleRequest:
    """The requested content of a bundle, and its machine; `split` is in bytes.

    `repack`: pack the wheels again, with Zstandard. `reuse`: the folder of an older bundle, whose
    wheels need not be fetched and rewritten again. `built`: the wheels of the candidates of vLLM
    that are from sources, by the name of the cell.
    """

    cells: tuple[Cell, ...]
    target: Target
    gpu_arch: str | None = None
    have: tuple[Have, ...] = ()
    without: tuple[str, ...] = ()
    split: int | None = None
    repack: bool = False
    reuse: Path | None = None
    built: Mapping[str, File] = field(default_factory=dict)


@dataclass(kw_only=True)
class _Pool:
    """The wheels so far, in the folder of the bundle's files; those of candidates lie apart.

    `published` is the SHA-256 by which the index knows a rewritten wheel, by its name in the
    bundle, `older` the wheels of an older bundle by that hash, `ready` the names of those taken
    from there.
    """

    files: Path
    published: dict[str, str] = field(default_factory=dict)
    older: dict[str, tuple[Path, BundleItem]] = field(default_factory=dict)
    ready: set[str] = field(default_factory=set)

    @property
    def folder(self) -> Path:
        return self.files / "wheels"

    def every(self) -> list[Path]:
        return [*self.folder.iterdir(), *(self.files / CANDIDATES).parent.glob("*/*.whl")]

    def name(self, wheel: Path) -> str:
        return wheel.relative_to(self.files).as_posix()

    def wheels(self) -> dict[tuple[str, str], str]:
        return plan.wheel_of(path.name for path in self.folder.iterdir())


def make_bundle(
    wanted: BundleRequest,
    releases: Releases,
    out: Path,
    *,
    root: Path = _ROOT,
    report: Callable[[str], None] = print,
) -> None:
    """Make a bundle in the folder `out`; it replaces an older bundle there once it is complete.

    `root` is the checkout; `report` receives lines about the result. Raises MatrixError if `out`
    holds something else, a cell does not resolve, a package has no wheel, or an item of `have` or a
    pattern of `without` fits nothing.
    """
    if not (root / "tests" / "startup").is_dir():
        raise MatrixError(f"{root}: no tests/startup here; run from a checkout of the project")
    plan.one_python(wanted.cells)
    arch = parse_arch(wanted.gpu_arch) if wanted.gpu_arch else None
    if wanted.repack:
        zstd_zipfile()  # before the hours that fetching may take
    check_out(out)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent) as name:
        made, files = Path(name, "bundle"), Path(name, "files")
        pool = _Pool(files=files)
        pool.folder.mkdir(parents=True)
        made.mkdir()
        if wanted.reuse is not None:
            pool.older = _older_wheels(wanted.reuse, wanted.gpu_arch)
        metadata = _project_metadata(root)
        cells = _cells(wanted, releases, pool, metadata.dependencies)
        installer = _fetch_installer(wanted.target, pool)
        if arch is not None or wanted.repack:
            report(_shrink(pool, arch, repack=wanted.repack, keep=installer))
        project = _write_project(root, files, metadata)
        items = _items(files, pool.published)
        with timed("writing"):
            parts = write_parts(files, items, made, wanted.split) if wanted.split else []
            if not parts:
                for path in files.iterdir():
                    path.rename(made / path.name)
            _copy_runner(made)
            text = plan.manifest_text(
                made=provenance.timestamp(datetime.now(timezone.utc)),
                target=wanted.target,
                gpu_arch=wanted.gpu_arch,
                installer=f"wheels/{installer}",
                without=wanted.without,
                cells=[replace(cell, lock=(*cell.lock, project)) for cell in cells],
                files=items,
                parts=parts,
            )
            (made / MANIFEST).write_text(text, encoding="utf-8")
            _put_in_place(made, out)
    for line in _summary(out, items, parts):
        report(line)


def _copy_runner(out: Path) -> None:
    """Copy what starts a bundle: two modules that need the standard library alone."""
    for name in (_RUNNER, "manifest.py"):
        shutil.copyfile(Path(run.__file__).with_name(name), out / name)


def refresh_bundle(out: Path, *, root: Path = _ROOT) -> None:
    """Write the project of an existing bundle again, and leave its wheels as they are.

    Raises MatrixError if `out` is not a bundle.
    """
    try:
        manifest = read_manifest(out)
    except BundleError as error:
        raise BundlePlanError(str(error)) from error
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent) as name:
        files, made = Path(name, "files"), Path(name, "made")
        files.mkdir()
        made.mkdir()
        project = _write_project(root, files, _project_metadata(root))
        items = _items(files)
        kept = [part for part in manifest.parts if not part.name.startswith("project-")]
        parts = []
        if manifest.parts:
            size = max(part.bytes for part in manifest.parts)
            parts = [*kept, *write_project_parts(files, items, made, size)]
        else:
            (files / PROJECT).rename(made / PROJECT)
        data = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        data["made"] = provenance.timestamp(datetime.now(timezone.utc))
        text = plan.refreshed(data, project, items, parts)
        for old in (*out.glob("project-[0-9]*"), out / PROJECT):
            if old.exists():
                old.rename(Path(name, f"old-{old.name}"))
        for path in made.iterdir():
            path.rename(out / path.name)
        _copy_runner(out)
        write_text(out / MANIFEST, text)


def fetch(pinned: Sequence[Pinned], target: Target, folder: Path) -> None:
    """Fetch the wheel of each pinned distribution for the target into a folder, by pip.

    pip compares the hashes. Raises MatrixError, which names the package, if there is none.
    """
    if not pinned:
        return
    if not importlib.util.find_spec("pip"):
        raise MatrixError(f"{sys.executable} has no pip, which fetches the wheels: install pip")
    lock = folder.parent / "fetch.txt"
    lock.write_text(
        "".join(
            f"{distribution.name}=={distribution.version} "
            + " ".join(f"--hash=sha256:{digest}" for digest in sorted(distribution.hashes))
            + "\n"
            for distribution in pinned
        ),
        encoding="utf-8",
    )
    major, minor = target.python.split(".")
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--require-hashes", "--only-binary", ":all:"),
        *("--implementation", "cp", "--python-version", target.python),
        *("--abi", f"cp{major}{minor}", "--abi", "abi3", "--abi", "none"),
        *(word for tag in target.pip_platforms for word in ("--platform", tag)),
        *("--dest", str(folder), "-r", str(lock)),
    ]
    done = run_program(command)
    lock.unlink()
    if done.returncode:
        raise MatrixError(f"the wheels cannot be fetched: {_reason(done.stderr)}")


def _cells(
    wanted: BundleRequest, releases: Releases, pool: _Pool, dependencies: Sequence[str]
) -> list[BundleCell]:
    locks = _locks(wanted, releases, pool, dependencies)
    faults = [
        unfit_have(have, cell, releases, locks[cell.name])
        for have in wanted.have
        for cell in wanted.cells
        if cell.builds
    ]
    faults += [plan.unfit_have(have, locks) for have in wanted.have]
    faults.append(plan.unmatched(wanted.without, locks))
    if fault := next(filter(None, faults), None):
        raise BundlePlanError(fault)
    found, cells = [], {cell.name: cell for cell in wanted.cells}
    for name, lock in locks.items():
        have, out = plan.left_out(lock, wanted.have, wanted.without)
        kept = [pinned for pinned in lock.values() if pinned.name not in {*have, *out}]
        for pinned in kept:
            _take_older(pinned, pool)
        wheels = pool.wheels()
        lacking = [
            pinned
            for pinned in kept
            if pinned.url is None and (pinned.name, pinned.version) not in wheels
        ]
        with timed(f"fetching {len(lacking)} of {len(kept)} wheels of {name}"):
            fetch(lacking, wanted.target, pool.folder)
        wheels = pool.wheels()
        packages = tuple(
            Package(
                name=pinned.name,
                version=pinned.version,
                wheel=name_in_bundle(pinned, pool.files)
                if pinned.url
                else f"wheels/{wheels[pinned.name, pinned.version]}",
                by_file=pinned.url is not None,
            )
            for pinned in kept
        )
        builds = written_down(cells[name], releases)
        found.append(
            BundleCell(name=name, lock=packages, have=have, left_out=out, candidates=builds)
        )
    remove_unused(pool.files, {package.wheel for cell in found for package in cell.lock})
    return found


def _locks(
    wanted: BundleRequest, releases: Releases, pool: _Pool, dependencies: Sequence[str]
) -> dict[str, dict[str, Pinned]]:
    """Return what each cell needs, by name; the files of candidates are in the pool then."""
    locks: dict[str, dict[str, Pinned]] = {}
    candidates = candidates_of(wanted.cells, releases)
    built: Mapping[str, File] = {}
    if candidates:
        names = ", ".join(candidate.name for candidate in candidates.values())
        with timed(f"fetching the wheels of {names}"):
            copies, built = staged(candidates.values(), wanted.built, wanted.target, pool.files)
        write_candidates_file(candidates.values(), pool.files)
        releases = replace(releases, candidates=copies)
    for cell in wanted.cells:
        with timed(f"resolving {cell.name}"):
            if cell.builds:
                own = built.get(cell.name)
                installs = releases.installs(cell, own.requirement if own else None)
                needed = plan.with_project(installs, dependencies)
            else:
                more = (*releases.constraints(cell.vllm), *dependencies)
                needed = plan.requirements(cell, releases.companions(cell), more)
            try:
                locks[cell.name] = resolve(needed, wanted.target, releases.overrides(cell))
            except MatrixError as error:
                raise MatrixError(f"{cell.name}: {error}") from error
    return locks


def _older_wheels(reuse: Path, gpu_arch: str | None) -> dict[str, tuple[Path, BundleItem]]:
    """Return the wheels of an older bundle, by the hash that the index knows each by.

    Raises BundlePlanError if that is not a bundle, or its wheels are not as these shall be.
    """
    try:
        manifest: Manifest = read_manifest(reuse)
    except BundleError as error:
        raise BundlePlanError(f"--reuse: {error}") from None
    if manifest.parts or manifest.gpu_arch != gpu_arch:
        why = "is cut into parts" if manifest.parts else f"is for --gpu-arch {manifest.gpu_arch}"
        raise BundlePlanError(f"--reuse {reuse}: {why}; name a bundle without, or leave it out")
    wheels = [file for file in manifest.files.values() if file.name != manifest.installer]
    return {wheel.published or wheel.sha256: (reuse / wheel.name, wheel) for wheel in wheels}


def _take_older(pinned: Pinned, pool: _Pool) -> None:
    """Take the wheel of a distribution from the older bundle, where it holds that."""
    for digest in pinned.hashes & pool.older.keys():
        path, item = pool.older[digest]
        if not path.is_file() or digest_of(path) != item.sha256:
            raise BundlePlanError(f"--reuse: {path} is missing or damaged; leave --reuse out")
        wheel = name_in_bundle(pinned, pool.files) if pinned.url else f"wheels/{path.name}"
        if wheel not in pool.ready:
            (pool.files / wheel).unlink(missing_ok=True)
            link_or_copy(path, pool.files / wheel)
        pool.ready.add(wheel)
        if item.published is not None:
            pool.published[wheel] = item.published


def _fetch_installer(target: Target, pool: _Pool) -> str:
    """Fetch uv for the target, which installs the rest there; return its wheel's name."""
    with timed("fetching uv"):
        (uv,) = resolve(["uv"], target).values()
        if (uv.name, uv.version) not in pool.wheels():
            fetch([uv], target, pool.folder)
    return pool.wheels()[uv.name, uv.version]


def _shrink(pool: _Pool, arch: int | None, *, repack: bool, keep: str) -> str:
    """Rewrite all wheels but the one to `keep`; return a line about the result.

    That is the installer's, which the target opens with zipfile.
    """
    before = _size(pool)

    done_before = {f"wheels/{keep}", *pool.ready}
    wheels = [path for path in pool.every() if pool.name(path) not in done_before]
    sizes = {path: path.stat().st_size for path in wheels}
    wheels.sort(key=lambda path: -sizes[path])
    ready: list[int] = []

    def shrink(wheel: Path) -> tuple[Path, str, Pruned] | None:
        published = digest_of(wheel)
        pruned = rewrite(wheel, arch, repack=repack)
        ready.append(sizes[wheel])
        return None if pruned is None else (wheel, published, pruned)

    def progress() -> str:
        return f"{mib(sum(ready))} of {mib(sum(sizes.values()))}"

    total = Pruned()
    with (
        timed("rewriting the wheels", progress=progress),
        ThreadPoolExecutor(os.cpu_count() or 1) as workers,
    ):
        for done in workers.map(shrink, wheels):
            if done:
                pool.published[pool.name(done[0])] = done[1]
                total += done[2]
    return (
        f"matrix: {len(pool.published)} wheels rewritten, {mib(before)} are now"
        f" {mib(_size(pool))}; GPU code: {mib(total.kept)} kept,"
        f" {mib(total.dropped)} dropped; of {total.fatbins} fatbins {total.other} kept a near"
        f" image or PTX, {total.none} had nothing for this chip"
    )


def _project_metadata(root: Path) -> ProjectMetadata:
    """Return what the checkout's pyproject.toml declares, and its version."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return ProjectMetadata(
        name=project["name"],
        version=version(root),
        requires_python=project["requires-python"],
        dependencies=tuple(project["dependencies"]),
        entry_points={"console_scripts": project["scripts"], **project["entry-points"]},
    )


def _write_project(root: Path, files: Path, metadata: ProjectMetadata) -> Package:
    """Write the project's tree and its wheel, and note the commit of the checkout."""
    tree = files / PROJECT
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
    wheel = write_project_wheel(tree, metadata)
    return Package(name=metadata.name, version=metadata.version, wheel=f"{PROJECT}{wheel.name}")


def _items(files: Path, published: Mapping[str, str] | None = None) -> list[BundleItem]:
    paths = sorted(path for path in files.rglob("*") if path.is_file())
    with ThreadPoolExecutor(os.cpu_count() or 1) as workers:
        digests = list(workers.map(digest_of, paths))
    return [
        BundleItem(
            name=path.relative_to(files).as_posix(),
            bytes=path.stat().st_size,
            sha256=digest,
            published=(published or {}).get(path.relative_to(files).as_posix()),
        )
        for path, digest in zip(paths, digests, strict=True)
    ]


def check_out(out: Path) -> None:
    """Raise BundlePlanError if no bundle can be made in a folder, or none may be."""
    if out.exists() and not out.is_dir():
        raise BundlePlanError(f"--out {out}: is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise BundlePlanError(f"--out {out}: is not empty and no bundle; name another folder")
    try:
        check_folder(out.absolute().parent)
    except OSError as error:
        raise BundlePlanError(
            f"--out {out}: cannot be written: {error.strerror or error}; name another folder"
        ) from None


def _put_in_place(made: Path, out: Path) -> None:
    if out.is_dir():
        out.rename(made.with_name("old"))  # gone with the folder that holds it
    made.rename(out)


def _summary(out: Path, items: Sequence[BundleItem], parts: Sequence[BundleItem]) -> list[str]:
    size = sum(item.bytes for item in parts or items)
    what = f"{len(parts)} parts" if parts else f"{len(items)} files"
    largest = sorted(items, key=lambda item: -item.bytes)[:8]
    return [
        f"matrix: {out}: {what}, {mib(size)}; the largest:",
        *(f"  {mib(item.bytes):>12}  {Path(item.name).name}" for item in largest),
        f"run it there: python3 {out}/{_RUNNER} CELL",
    ]


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return why_install_failed("\n".join(errors[-1:] or lines[-1:])).reason


def _size(pool: _Pool) -> int:
    return sum(path.stat().st_size for path in pool.every())
