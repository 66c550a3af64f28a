"""Build a wheel of vLLM from its sources, once, and keep it in the cache.

A `Recipe` says how. Without one nothing is compiled: such a wheel does not require a torch and
serves several; it is for the platform `cpu`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from matrix._util.archives import BAD_ARCHIVE
from matrix._util.caches import cache_folder
from matrix._util.files import digest_of, read_text, write_text
from matrix._util.reported import Say, last_line, printed, run_reported
from matrix._util.scratch import Scratch
from matrix._util.text import mib
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.model import Candidate, SourceKind
from matrix.catalog.cells import Made
from matrix.catalog.located import find_file
from matrix.catalog.lock import alone
from matrix.catalog.vllm_sources.compiled import LOCATION, check_takes_extensions
from matrix.catalog.vllm_sources.sources import Sources
from matrix.checks.resolution.resolver import uv
from matrix.checks.vllm_build.compiler import check_torch
from matrix.checks.vllm_build.environment import (
    BuildEnvironment,
    build_environment,
    build_requirements,
    made_environment,
    uv_environ,
)
from matrix.checks.vllm_build.reasons import reason_of
from matrix.checks.vllm_build.recipe import EMPTY, OF_COMPILERS, SKEWING, Recipe
from matrix.errors import MatrixError

_FORMAT = 1  # raised where the same sources and tools would make another wheel
_LOCK = "builds.lock"
_COMPILES = "compiles.lock"
_FACTS = "built.json"
_WHEELS = "vllm-wheels"
_NO_RUST = "can't find Rust compiler"


class BuildFailedError(MatrixError):
    """Sources that do not build; `reason` is the build's own last error line."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Built:
    """A wheel that was built, and what it was made of.

    `version` is the wheel's own, with its local part. `kind`, `identity`, `revision` and
    `source_version` are those of its sources, `requirements` what these say that a build needs,
    `tools` the versions that it was built with. `seconds` is how long that took,
    `from_cache` whether it was there already. `log` has all that the build printed, `made` says how
    it was built.
    """

    wheel: Path
    version: str
    sha256: str
    kind: SourceKind
    identity: str
    revision: str | None
    source_version: str
    python: str
    requirements: tuple[str, ...]
    tools: Mapping[str, str]
    seconds: float
    log: Path
    from_cache: bool
    made: Made = Made.WITHOUT_COMPILING

    @property
    def requirement(self) -> str:
        """The requirement that installs this wheel and no other."""
        return f"vllm @ {self.wheel.as_uri()}#sha256={self.sha256}"


def build_wheel(
    sources: Sources,
    python: str,
    say: Say,
    *,
    torch: str | None = None,
    cache: Path | None = None,
    recipe: Recipe = EMPTY,
) -> Built:
    """Return the wheel of these sources for a Python (`3.12`, or the path of an interpreter).

    `torch` is the requirement of the torch to build with (None: the sources' own pin); a recipe
    for one torch has its own. The build writes into the sources' folder. One build at a time uses a
    cache, and besides one that compiles; the wheel is there complete or not at all. Raises
    BuildFailedError where the sources do not build, another MatrixError where this machine cannot
    build.
    """
    cache = (cache or cache_folder()).resolve()
    requirements = build_requirements(sources.project, sources.shown, compiles=recipe.compiles)
    if recipe.extensions is not None:
        check_takes_extensions(sources)
    with _alone(cache, say):
        needed = _with(_torch(torch, recipe), requirements)
        environment = build_environment(needed, python, cache, say)
        check_torch(recipe, environment.torch_cuda)
        named = (sources.kind, sources.identity, sources.version)
        folder = cache / _WHEELS / _key(named, environment, recipe)
        found = _kept(folder)
        if found is not None:
            return found
        if not recipe.compiles:
            return _build(sources, requirements, environment, folder, recipe=recipe, say=say)
    # It takes long and much memory: one at a time, and no other build waits for it.
    with _alone(cache, say, _COMPILES):
        found = _kept(folder)
        return found or _build(sources, requirements, environment, folder, recipe=recipe, say=say)


def find_wheel(
    named: tuple[SourceKind, str, str],
    python: str,
    *,
    torch: str | None = None,
    cache: Path | None = None,
    recipe: Recipe = EMPTY,
) -> Built | None:
    """Return the wheel that `build_wheel` has made of sources; None where it would build it.

    `named` are their kind, identity and version: the sources need not be here. Opening them takes
    longer than all else, and what a commit or a file of one hash holds does not change.
    """
    cache = (cache or cache_folder()).resolve()
    for path in sorted((cache / _WHEELS).glob(f"*/{_FACTS}")):
        found = _facts(path.parent)
        if found is None or (found.kind, found.identity, found.source_version) != named:
            continue
        needed = _with(_torch(torch, recipe), found.requirements)
        environment = made_environment(needed, python, cache)
        if environment is not None and path.parent.name == _key(named, environment, recipe):
            return _kept(path.parent)
    return None


def built_before(candidate: Candidate, python: str, *, cache: Path | None = None) -> Built | None:
    """Return a wheel that was built without compiling of a candidate, for a Python, else None.

    It may have been built with other tools than a build today would have. The sources need not be
    here.
    """
    folder = (cache or cache_folder()).resolve() / _WHEELS
    for path in sorted(folder.glob(f"*/{_FACTS}"), key=lambda path: -path.stat().st_mtime):
        found = _facts(path.parent)
        if found is None or (found.kind, found.identity) != candidate.sources:
            continue
        of_the_cpu = found.made is Made.WITHOUT_COMPILING
        if of_the_cpu and (found.source_version, found.python) == (candidate.version, python):
            kept = _kept(path.parent)
            if kept is not None:
                return kept
    return None


def forget_wheels(
    candidate: Candidate, others: Iterable[Candidate] = (), *, cache: Path | None = None
) -> int:
    """Remove the wheels that were built of a candidate's sources, and return how many those were.

    Not those of sources that one of the `others` has too. Raises CandidateError where one cannot be
    removed.
    """
    if candidate.sources is None or candidate.sources in (other.sources for other in others):
        return 0
    removed = 0
    for path in sorted(((cache or cache_folder()).resolve() / _WHEELS).glob(f"*/{_FACTS}")):
        found = _facts(path.parent)
        if found is None or (found.kind, found.identity) != candidate.sources:
            continue
        try:
            path.unlink()  # without it nobody takes the rest for a wheel
            shutil.rmtree(path.parent)
        except OSError as error:
            raise CandidateError(
                f"{path.parent}: cannot be removed ({error.strerror}); remove it by hand"
            ) from None
        removed += 1
    return removed


def _torch(given: str | None, recipe: Recipe) -> tuple[str, ...]:
    return recipe.torch or ((given,) if given is not None else ())


def _with(torch: tuple[str, ...], requirements: tuple[str, ...]) -> tuple[str, ...]:
    """Return the requirements of a build with other ones of torch, if there are any."""
    if not torch:
        return requirements
    kept = (text for text in requirements if not re.match(r"torch(?![\w.-])", text))
    return (*kept, *torch)


def _key(named: tuple[SourceKind, str, str], environment: BuildEnvironment, recipe: Recipe) -> str:
    """Return the name of the folder of a wheel: a digest of what it is made of."""
    parts = {
        "format": _FORMAT,
        "named": named,
        "python": environment.minor,
        "tools": dict(environment.tools),
        **recipe.key,
    }
    if recipe.torch:
        parts["built beside"] = environment.versions["torch"]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _kept(folder: Path) -> Built | None:
    """Return the wheel of a folder of the cache; None where there is none, or it was changed."""
    found = _facts(folder)
    with contextlib.suppress(OSError):
        if found is not None and digest_of(found.wheel) == found.sha256:
            return found
    return None


def _facts(folder: Path) -> Built | None:
    """Return what is written of the wheel of a folder; None where that cannot be read."""
    try:
        facts = json.loads(read_text(folder / _FACTS))
        wheel, log = folder / facts.pop("name"), folder / facts.pop("log")
        return Built(
            wheel=wheel,
            log=log,
            requirements=tuple(facts.pop("requirements")),
            kind=SourceKind(facts.pop("kind")),
            made=Made(facts.pop("made", Made.WITHOUT_COMPILING)),
            from_cache=True,
            **facts,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _build(
    sources: Sources,
    requirements: tuple[str, ...],
    environment: BuildEnvironment,
    folder: Path,
    *,
    recipe: Recipe,
    say: Say,
) -> Built:
    began = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Scratch("vllm-build") as scratch:
        log, out = scratch / "build.log", scratch / "wheels"
        build = _Build(sources=sources, environment=environment, recipe=recipe, log=log, out=out)
        _run(build, _given_extensions(recipe, scratch, say), say)
        wheel = _only_wheel(sources, out)
        version = _check(sources, wheel, recipe)
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            shutil.move(wheel, part / wheel.name)
            shutil.move(log, part / log.name)
            built = Built(
                wheel=folder / wheel.name,
                version=version,
                sha256=digest_of(part / wheel.name),
                kind=sources.kind,
                identity=sources.identity,
                revision=sources.revision,
                source_version=sources.version,
                python=environment.minor,
                requirements=requirements,
                tools=dict(environment.tools),
                seconds=round(time.monotonic() - began, 1),
                log=folder / log.name,
                from_cache=False,
                made=recipe.made,
            )
            facts = {**asdict(built), "name": wheel.name, "log": log.name}
            del facts["wheel"], facts["from_cache"]
            write_text(part / _FACTS, json.dumps(facts, indent=1, sort_keys=True) + "\n")
            part.replace(folder)
        except OSError as error:
            raise MatrixError(
                f"{folder.parent}: cannot be written ({error.strerror or error}); make room, or"
                " set MATRIX_CACHE"
            ) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return built


@dataclass(frozen=True, kw_only=True)
class _Build:
    """One run of vLLM's build: what of, where, how, and where its output and its wheel go."""

    sources: Sources
    environment: BuildEnvironment
    recipe: Recipe
    log: Path
    out: Path


def _given_extensions(recipe: Recipe, folder: Path, say: Say) -> Mapping[str, str]:
    """Fetch the wheel that has the extensions, and return what names it to setup.py."""
    wheel = recipe.extensions
    if wheel is None:
        return {}
    size = f" ({mib(wheel.size)})" if wheel.size else ""
    say(f"{wheel.name}{size} is fetched for its extensions")
    path, _ = find_file(wheel.url, folder, sha256=wheel.sha256)
    return {LOCATION: str(path)}


def _run(build: _Build, given: Mapping[str, str], say: Say) -> None:
    """Build the wheel into a folder; without Rust, unless the sources cannot do without.

    A compiler runs as the user set it up, and Rust with it.
    """
    sources, recipe, log = build.sources, build.recipe, build.log
    command = [*uv(), "build", "--wheel", "--no-build-isolation", "--python"]
    command += [str(build.environment.python), "--out-dir", str(build.out), str(sources.folder)]
    what = f"vllm {sources.version}: builds {recipe.words}"
    own = _environ(build, given)
    with contextlib.nullcontext() if recipe.compiles else _without_rust() as shims:
        status = run_reported(command, log, say, what, environ=_after(shims, own))
    needs_rust = bool(status) and _NO_RUST in printed(log)
    if needs_rust and shutil.which("cargo") and shutil.which("rustc"):
        log.write_bytes(b"")
        status = run_reported(command, log, say, f"{what}, but for its Rust", environ=own)
    elif needs_rust:
        raise MatrixError(
            f"{sources.shown}: needs a Rust compiler to build, and none is here: install rustc and"
            " cargo, as https://rustup.rs does"
        )
    if status:
        output = printed(log)
        for folder in (sources.folder.resolve(), build.environment.python.parents[1]):
            output = output.replace(f"{folder}{os.sep}", "").replace(str(folder), folder.name)
        reason = reason_of(output, compiled=recipe.compiles) or last_line(log)
        raise BuildFailedError(f"{sources.shown}: does not build: {reason}", reason)


@contextlib.contextmanager
def _without_rust() -> Iterator[Path]:
    """Give a folder for the head of PATH, in which a rustc fails as if there were none.

    vLLM's frontend in Rust is optional to its build and not part of a startup; compiling it takes
    minutes and a network. setuptools-rust skips what is optional where `rustc -V` fails.
    """
    with Scratch("no-rust") as folder:
        shim = folder / "rustc"
        shim.write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
        shim.chmod(0o755)
        yield folder


def _environ(build: _Build, given: Mapping[str, str]) -> dict[str, str]:
    recipe, sources = build.recipe, build.sources
    dropped = SKEWING if recipe.compiles else (*SKEWING, *OF_COMPILERS)
    environ = {key: value for key, value in uv_environ().items() if key not in dropped}
    environ |= {
        **recipe.variables,
        **given,
        "SETUPTOOLS_SCM_PRETEND_VERSION": sources.version,
    }
    if sources.revision is not None:
        # From here vllm/_version.py has the commit.
        environ["SETUPTOOLS_SCM_PRETEND_METADATA"] = f'{{node="g{sources.revision}"}}'
    return _after(build.environment.python.parent, environ)


def _after(folder: Path | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with a folder at the head of PATH, if there is one."""
    path = environ.get("PATH", os.defpath)
    return {**environ, "PATH": f"{folder}{os.pathsep}{path}" if folder else path}


def _only_wheel(sources: Sources, out: Path) -> Path:
    found = list(out.glob("*.whl"))
    if len(found) != 1:
        reason = f"the build made {len(found)} wheels, not 1"
        raise BuildFailedError(f"{sources.shown}: does not build: {reason}", reason)
    return found[0]


def _check(sources: Sources, wheel: Path, recipe: Recipe) -> str:
    """Return the version of a wheel that is what was to be built.

    Raises BuildFailedError where it is of another project or version, or has compiled code and
    should not, or the other way round.
    """
    try:
        project, version, _, _ = parse_wheel_filename(wheel.name)
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
    except (InvalidWheelFilename, *BAD_ARCHIVE, OSError) as error:
        reason = f"{wheel.name} is not a wheel ({error})"
        raise BuildFailedError(f"{sources.shown}: does not build: {reason}", reason) from None
    compiled = [name for name in names if name.endswith(".so") and "/_rust_" not in name]
    empty = recipe.made is Made.WITHOUT_COMPILING
    reason = ""
    if project != "vllm" or version.public != Version(sources.version).public:
        reason = f"the build made {wheel.name}, not vllm {sources.version}"
    elif compiled and empty:
        reason = f"the wheel has compiled code, such as {compiled[0]}"
    elif not (compiled or empty):
        reason = f"the build made {wheel.name} without any extension"
    if reason:
        raise BuildFailedError(f"{sources.shown}: {reason}", reason)
    return str(version)


def _alone(cache: Path, say: Say, name: str = _LOCK) -> AbstractContextManager[None]:
    """Return what lets one build at a time use the cache."""
    return alone(
        cache / name,
        lambda: say(f"{cache}: waits for another build of vLLM"),
        "cannot be locked for a build",
        "name another folder by MATRIX_CACHE",
    )
