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
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from matrix._util.archives import BAD_ARCHIVE
from matrix._util.caches import cache_folder
from matrix._util.files import digest_of, write_text
from matrix._util.reported import Say, last_line, printed, run_reported
from matrix._util.scratch import Scratch
from matrix._util.text import clean, clip, mib, pip_install
from matrix.catalog.candidates.model import SourceKind
from matrix.catalog.cells import Made
from matrix.catalog.located import find_file
from matrix.catalog.lock import alone
from matrix.catalog.vllm_sources.compiled import LOCATION, check_takes_extensions
from matrix.catalog.vllm_sources.sources import Sources
from matrix.checks.resolution.resolver import uv
from matrix.checks.vllm_build.compiler import check_torch
from matrix.checks.vllm_build.environment import (
    BuildEnvironment,
    NoPythonError,
    build_environment,
    build_requirements,
    made_environment,
    uv_environ,
)
from matrix.checks.vllm_build.reasons import reason_of
from matrix.checks.vllm_build.recipe import EMPTY, OF_COMPILERS, SKEWS_BUILD, Recipe
from matrix.checks.vllm_build.wheels import FACTS, Built, facts_of, kept_wheel, wheels_of
from matrix.errors import MatrixError

_FORMAT = 1  # raised where the same sources and tools would make another wheel
_LOCK = "builds.lock"
_COMPILES = "compiles.lock"
_NO_RUST = "can't find Rust compiler"


class BuildFailedError(MatrixError):
    """Sources that do not build; `reason` is the build's own last error line."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class _Build:
    """One build: sources, environment, release of Python, and recipe.

    `requirements` are what the sources say that a build needs.
    """

    sources: Sources
    requirements: tuple[str, ...]
    environment: BuildEnvironment
    minor: str
    recipe: Recipe


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
    for one torch has its own. Where the release of Python is not here and nothing is compiled, the
    Python that runs this builds the wheel for it. The build writes into the sources' folder. One
    build at a time uses a cache, and besides one that compiles; the wheel is there complete or not
    at all. Raises BuildFailedError if the sources do not build, another MatrixError if this
    machine cannot build.
    """
    cache = (cache or cache_folder()).resolve()
    requirements = build_requirements(sources.project, sources.shown, compiles=recipe.compiles)
    if recipe.extensions is not None:
        check_takes_extensions(sources)
    with _alone(cache, say):
        needed = _with(_torch(torch, recipe), requirements)
        environment = _environment(needed, python, recipe, cache, say)
        check_torch(recipe, environment.torch_cuda)
        named = (sources.kind, sources.identity, sources.version)
        minor = _minor(python, environment)
        folder = wheels_of(cache) / _key(named, minor, environment, recipe)
        build = _Build(
            sources=sources,
            requirements=requirements,
            environment=environment,
            minor=minor,
            recipe=recipe,
        )
        found = kept_wheel(folder)
        if found is not None:
            return found
        if not recipe.compiles:
            return _build(build, folder, say)
    # It takes long and much memory: one at a time, and no other build waits for it.
    with _alone(cache, say, _COMPILES):
        found = kept_wheel(folder)
        return found or _build(build, folder, say)


def find_wheel(
    named: tuple[SourceKind, str, str],
    python: str,
    *,
    torch: str | None = None,
    cache: Path | None = None,
    recipe: Recipe = EMPTY,
) -> Built | None:
    """Return the wheel that `build_wheel` has made of sources; None if it would build it.

    `named` are their kind, identity and version: the sources need not be here. Opening them takes
    longer than all else, and what a commit or a file of one hash holds does not change.
    """
    cache = (cache or cache_folder()).resolve()
    for path in sorted(wheels_of(cache).glob(f"*/{FACTS}")):
        found = facts_of(path.parent)
        if found is None or (found.kind, found.identity, found.source_version) != named:
            continue
        needed = _with(_torch(torch, recipe), found.requirements)
        for builder in _builders(python, recipe):
            environment = made_environment(needed, builder, cache)
            if environment is None:
                continue
            minor = _minor(python, environment)
            if path.parent.name == _key(named, minor, environment, recipe):
                return kept_wheel(path.parent)
    return None


def _torch(given: str | None, recipe: Recipe) -> tuple[str, ...]:
    return recipe.torch or ((given,) if given is not None else ())


def _with(torch: tuple[str, ...], requirements: tuple[str, ...]) -> tuple[str, ...]:
    """Return the requirements of a build with other ones of torch, if there are any."""
    if not torch:
        return requirements
    kept = (text for text in requirements if not re.match(r"torch(?![\w.-])", text))
    return (*kept, *torch)


def _builders(python: str, recipe: Recipe) -> tuple[str, ...]:
    """Return the Pythons that can build a wheel for one: itself, then the one that runs this."""
    if recipe.compiles or os.sep in python:
        return (python,)
    return python, sys.executable


def _environment(
    needed: tuple[str, ...], python: str, recipe: Recipe, cache: Path, say: Say
) -> BuildEnvironment:
    """Return the environment of a build, of the first Python that can be had."""
    first, *others = _builders(python, recipe)
    try:
        return build_environment(needed, first, cache, say)
    except NoPythonError:
        if not others:
            raise
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    say(f"Python {python} cannot be had; nothing is compiled, so Python {own} builds for it")
    return build_environment(needed, others[0], cache, say)


def _minor(python: str, environment: BuildEnvironment) -> str:
    """Return the release of Python that a wheel is for, such as 3.12."""
    return environment.minor if os.sep in python else python


def _key(
    named: tuple[SourceKind, str, str], minor: str, environment: BuildEnvironment, recipe: Recipe
) -> str:
    """Return the name of the folder of a wheel: a digest of what it is made of."""
    parts = {
        "format": _FORMAT,
        "named": named,
        "python": minor,
        "tools": dict(environment.tools),
        **recipe.key,
    }
    if recipe.torch:
        parts["built beside"] = environment.versions["torch"]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _build(build: _Build, folder: Path, say: Say) -> Built:
    sources, environment, recipe = build.sources, build.environment, build.recipe
    began = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Scratch("vllm-build") as scratch:
        log, out = scratch / "build.log", scratch / "wheels"
        _run(build, _given_extensions(recipe, scratch, say), log, out, say)
        wheel = _only_wheel(sources, out)
        version = _check(sources, wheel, recipe)
        wheel = _for_python(build, wheel)
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
                python=build.minor,
                requirements=build.requirements,
                tools=dict(environment.tools),
                seconds=round(time.monotonic() - began, 1),
                log=folder / log.name,
                from_cache=False,
                made=recipe.made,
            )
            facts = {**asdict(built), "name": wheel.name, "log": log.name}
            del facts["wheel"], facts["from_cache"]
            write_text(part / FACTS, json.dumps(facts, indent=1, sort_keys=True) + "\n")
            part.replace(folder)
        except OSError as error:
            raise MatrixError(
                f"{folder.parent}: cannot be written ({error.strerror or error}); make room, or"
                " set MATRIX_CACHE"
            ) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return built


def _given_extensions(recipe: Recipe, folder: Path, say: Say) -> Mapping[str, str]:
    """Fetch the wheel that has the extensions, and return what names it to setup.py."""
    wheel = recipe.extensions
    if wheel is None:
        return {}
    size = f" ({mib(wheel.size)})" if wheel.size else ""
    say(f"{wheel.name}{size} is fetched for its extensions")
    path, _ = find_file(wheel.url, folder, sha256=wheel.sha256)
    return {LOCATION: str(path)}


def _run(build: _Build, given: Mapping[str, str], log: Path, out: Path, say: Say) -> None:
    """Build the wheel into a folder; without Rust, unless the sources cannot do without.

    A compiler runs as the user set it up, and Rust with it.
    """
    sources, recipe = build.sources, build.recipe
    command = [*uv(), "build", "--wheel", "--no-build-isolation", "--python"]
    command += [str(build.environment.python), "--out-dir", str(out), str(sources.folder)]
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
            f"{sources.shown}: needs a Rust compiler to build, and this machine has none: install"
            " rustc and cargo, as https://rustup.rs does"
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
    dropped = SKEWS_BUILD if recipe.compiles else (*SKEWS_BUILD, *OF_COMPILERS)
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


def _bound(minor: str) -> str:
    """Return what the name of an extension has that this release of Python alone can load."""
    return f".cpython-{minor.replace('.', '')}-"


def _for_python(build: _Build, wheel: Path) -> Path:
    """Return the wheel with the tag of the Python that it is for, if another one built it."""
    built, wanted = build.environment.minor, build.minor
    if built == wanted:
        return wheel
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    # The one in deep_gemm has another file for each Python.
    alone = [
        name
        for name in sorted(names)
        if _bound(built) in name and name.replace(_bound(built), _bound(wanted)) not in names
    ]
    if alone:
        raise MatrixError(
            f"{build.sources.shown}: {alone[0]} is for Python {built} alone; install Python"
            f" {wanted} and run it again"
        )
    if find_spec("wheel") is None:
        raise MatrixError(
            f"{build.sources.shown}: the package wheel is not installed; it tags the wheel"
            f" for Python {wanted}: {pip_install('bundle')}"
        )
    tag = f"cp{wanted.replace('.', '')}"
    command = [sys.executable, "-m", "wheel", "tags", "--remove"]
    command += [f"--python-tag={tag}", f"--abi-tag={tag}", str(wheel)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        reason = clip(clean(ended.stderr.strip().rpartition("\n")[2]), 200)
        raise MatrixError(
            f"{build.sources.shown}: the wheel cannot be tagged for Python {wanted} ({reason});"
            " install that Python and run it again"
        )
    return _only_wheel(build.sources, wheel.parent)


def _check(sources: Sources, wheel: Path, recipe: Recipe) -> str:
    """Return the version of a wheel that is what was to be built.

    Raises BuildFailedError if it is of another project or version, or has compiled code and
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
