"""Build a wheel of vLLM from its sources without compiling, once, and keep it in the cache.

`VLLM_TARGET_DEVICE=empty`: vLLM's own name for a build without extensions. Such a wheel does not
require a torch and serves several; it is for the platform `cpu`.
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
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from matrix._util.caches import cache_folder
from matrix._util.files import digest_of, write_text
from matrix._util.reported import Say, last_line, run_reported
from matrix._util.scratch import Scratch
from matrix._util.text import clean, clip
from matrix.catalog.candidates.model import Candidate, Commit, Sdist, SourceKind, Tree
from matrix.catalog.vllm_sources.sources import Sources
from matrix.checks.resolution.resolver import uv
from matrix.checks.vllm_build.environment import (
    BuildEnvironment,
    build_environment,
    build_requirements,
    made_environment,
    uv_environ,
)
from matrix.errors import MatrixError

_FORMAT = 1  # raised where the same sources and tools would make another wheel
_LOCK = "builds.lock"
_FACTS = "built.json"
_WHEELS = "vllm-wheels"
_REASON = 300
_NO_RUST = "can't find Rust compiler"
# The names of errors that Python prints last, and what tools print.
_ERROR = re.compile(r"(?:[\w.]*(?:Error|Exception)|error|fatal error)\b\s*:?\s*(?P<text>.*)")
_OF_UV = re.compile(r"^[\s\u00d7\u2500-\u25ff]*")
# A user's settings that would make another wheel.
_SKEWING = (
    "MAX_JOBS",
    "SETUPTOOLS_SCM_PRETEND_METADATA",
    "SETUPTOOLS_SCM_PRETEND_VERSION_FOR_VLLM",
    "VLLM_PRECOMPILED_WHEEL_LOCATION",
    "VLLM_REQUIRE_RUST_FRONTEND",
    "VLLM_SKIP_VERSION_SUFFIX",
    "VLLM_USE_PRECOMPILED",
    "VLLM_USE_PRECOMPILED_RUST",
    "VLLM_VERSION_OVERRIDE",
)


class BuildFailedError(MatrixError):
    """Sources that do not build; `reason` is the build's own last error line."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Built:
    """A wheel that was built without compiling, and what it was made of.

    `version` is the wheel's own, with its local part. `kind`, `identity`, `revision` and
    `source_version` are those of its sources, `requirements` what these say that a build needs,
    `tools` the versions that it was built with. `seconds` is how long that took,
    `from_cache` whether it was there already. `log` has all that the build printed.
    """

    wheel: Path
    version: str
    sha256: str
    kind: str
    identity: str
    revision: str | None
    source_version: str
    python: str
    requirements: tuple[str, ...]
    tools: Mapping[str, str]
    seconds: float
    log: Path
    from_cache: bool

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
) -> Built:
    """Return the wheel of these sources for a Python (`3.12`, or the path of an interpreter).

    `torch` is the requirement of the torch to build beside (None: the sources' own pin). The build
    writes into the sources' folder. One build at a time uses a cache; the wheel is there complete
    or not at all. Raises BuildFailedError where the sources do not build, another MatrixError where
    this machine cannot build.
    """
    cache = (cache or cache_folder()).resolve()
    requirements = build_requirements(sources.project, sources.shown)
    with _alone(cache, say):
        environment = build_environment(_with(torch, requirements), python, cache, say)
        named = (sources.kind, sources.identity, sources.version)
        folder = cache / _WHEELS / _key(named, environment)
        found = _kept(folder)
        if found is not None:
            return found
        shutil.rmtree(folder, ignore_errors=True)
        return _build(sources, requirements, environment, folder, say)


def find_wheel(
    named: tuple[SourceKind, str, str],
    python: str,
    *,
    torch: str | None = None,
    cache: Path | None = None,
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
        environment = made_environment(_with(torch, found.requirements), python, cache)
        if environment is not None and path.parent.name == _key(named, environment):
            return _kept(path.parent)
    return None


def built_before(candidate: Candidate, python: str, *, cache: Path | None = None) -> Built | None:
    """Return a wheel that was built of a candidate's sources for a Python (`3.12`), else None.

    It may have been built with other tools than a build today would have. The sources need not be
    here.
    """
    source = candidate.source
    named: str | None = None
    if isinstance(source, Commit):
        named = source.revision
    elif isinstance(source, (Sdist, Tree)):
        named = source.sha256 if isinstance(source, Sdist) else source.state
    folder = (cache or cache_folder()).resolve() / _WHEELS
    for path in sorted(folder.glob(f"*/{_FACTS}"), key=lambda path: -path.stat().st_mtime):
        found = _facts(path.parent)
        if found is None or (found.identity, found.kind) != (named, str(source.kind)):
            continue
        if (found.source_version, found.python) == (candidate.version, python):
            kept = _kept(path.parent)
            if kept is not None:
                return kept
    return None


def _with(torch: str | None, requirements: tuple[str, ...]) -> tuple[str, ...]:
    """Return the requirements of a build with another one of torch, if there is one."""
    if torch is None:
        return requirements
    kept = (text for text in requirements if not re.match(r"torch(?![\w.-])", text))
    return (*kept, torch)


def _key(named: tuple[SourceKind, str, str], environment: BuildEnvironment) -> str:
    """Return the name of the folder of a wheel: a digest of what it is made of."""
    parts = {
        "format": _FORMAT,
        "named": named,
        "python": environment.minor,
        "tools": dict(environment.tools),
    }
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
        facts = json.loads((folder / _FACTS).read_text("utf-8"))
        wheel, log = folder / facts.pop("name"), folder / facts.pop("log")
        needed = tuple(facts.pop("requirements"))
        return Built(wheel=wheel, log=log, requirements=needed, from_cache=True, **facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _build(
    sources: Sources,
    requirements: tuple[str, ...],
    environment: BuildEnvironment,
    folder: Path,
    say: Say,
) -> Built:
    began = time.monotonic()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Scratch("vllm-build") as scratch:
        log, out = scratch / "build.log", scratch / "wheels"
        _run(sources, environment, log, out, say)
        wheel = _only_wheel(sources, out)
        version = _check(sources, wheel)
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
                kind=str(sources.kind),
                identity=sources.identity,
                revision=sources.revision,
                source_version=sources.version,
                python=environment.minor,
                requirements=requirements,
                tools=dict(environment.tools),
                seconds=round(time.monotonic() - began, 1),
                log=folder / log.name,
                from_cache=False,
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


def _run(sources: Sources, environment: BuildEnvironment, log: Path, out: Path, say: Say) -> None:
    """Build the wheel into a folder; without Rust, unless the sources cannot do without."""
    command = [*uv(), "build", "--wheel", "--no-build-isolation"]
    command += ["--python", str(environment.python), "--out-dir", str(out), str(sources.folder)]
    what = f"vllm {sources.version}: builds without compiling"
    with _without_rust() as shims:
        environ = _environ(sources, environment, f"{shims}{os.pathsep}")
        status = run_reported(command, log, say, what, environ=environ)
    needs_rust = bool(status) and _NO_RUST in log.read_text("utf-8", "replace")
    if needs_rust and shutil.which("cargo") and shutil.which("rustc"):
        log.write_bytes(b"")
        status = run_reported(
            command, log, say, f"{what}, but for its Rust", environ=_environ(sources, environment)
        )
    elif needs_rust:
        raise MatrixError(
            f"{sources.shown}: needs a Rust compiler to build, and none is here: install rustc and"
            " cargo, as https://rustup.rs does"
        )
    if status:
        reason = reason_of(log.read_text("utf-8", "replace")) or last_line(log)
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


def _environ(sources: Sources, environment: BuildEnvironment, before: str = "") -> dict[str, str]:
    environ = {key: value for key, value in uv_environ().items() if key not in _SKEWING}
    path = f"{before}{environment.python.parent}{os.pathsep}{environ.get('PATH', os.defpath)}"
    environ |= {
        "PATH": path,
        "VLLM_TARGET_DEVICE": "empty",
        "SETUPTOOLS_SCM_PRETEND_VERSION": sources.version,
    }
    if sources.revision is not None:
        # From here vllm/_version.py has the commit.
        environ["SETUPTOOLS_SCM_PRETEND_METADATA"] = f'{{node="g{sources.revision}"}}'
    return environ


def reason_of(output: str) -> str | None:
    r"""Return the last error that a build printed, in one line; None where it printed none.

    >>> reason_of("running bdist_wheel\nModuleNotFoundError: No module named 'torch'\n")
    "ModuleNotFoundError: No module named 'torch'"
    """
    lines = [clean(_OF_UV.sub("", line)) for line in output.splitlines()]
    errors = [line for line in lines if (found := _ERROR.match(line)) and found["text"]]
    # uv begins its own report, which says less than the build, with `error:`.
    own = [line for line in errors if not re.match(r"(?:error|Failed)\b.*(?:build|backend)", line)]
    chosen = own or errors
    return clip(chosen[-1], _REASON) if chosen else None


def _only_wheel(sources: Sources, out: Path) -> Path:
    found = list(out.glob("*.whl"))
    if len(found) != 1:
        reason = f"the build made {len(found)} wheels, not 1"
        raise BuildFailedError(f"{sources.shown}: does not build: {reason}", reason)
    return found[0]


def _check(sources: Sources, wheel: Path) -> str:
    """Return the version of a wheel that is what was to be built.

    Raises BuildFailedError where it is of another project or version, or has compiled code.
    """
    try:
        project, version, _, _ = parse_wheel_filename(wheel.name)
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
    except (InvalidWheelFilename, zipfile.BadZipFile, OSError) as error:
        reason = f"{wheel.name} is not a wheel ({error})"
        raise BuildFailedError(f"{sources.shown}: does not build: {reason}", reason) from None
    compiled = [name for name in names if name.endswith(".so") and "/_rust_" not in name]
    reason = ""
    if project != "vllm" or version.public != Version(sources.version).public:
        reason = f"the build made {wheel.name}, not vllm {sources.version}"
    elif compiled:
        reason = f"the wheel has compiled code, such as {compiled[0]}"
    if reason:
        raise BuildFailedError(f"{sources.shown}: {reason}", reason)
    return str(version)


@contextlib.contextmanager
def _alone(cache: Path, say: Say) -> Iterator[None]:
    """Hold the cache for the block, after whoever holds it now. Raises MatrixError."""
    try:
        from filelock import FileLock, Timeout
    except ImportError:
        raise MatrixError(
            "filelock is not installed, and builds of vLLM wait for each other with it:"
            " pip install 'torch-vllm-matrix[index]'"
        ) from None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache / _LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            say(f"{cache}: waits for another build of vLLM")
            lock.acquire()
    except OSError as error:
        raise MatrixError(
            f"{cache}: cannot be locked for a build ({error.strerror or error}); set MATRIX_CACHE"
        ) from None
    try:
        yield
    finally:
        lock.release()
