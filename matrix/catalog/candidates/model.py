"""A candidate: the source of an unreleased build, and what distinguishes it from others.

Pure. The **identity** of a candidate is a digest of its files, its commit or the state of its tree.
Two nightlies of one name have two identities and are two candidates.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from matrix._util.enums import StrEnum
from matrix._util.versions import parse_version
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.cells import Build, CellError, Made, candidate_project
from matrix.catalog.projects import Project

_NAME = re.compile(r"[\w.+!-]+")

TORCH_COMPANIONS = ("torchvision", "torchaudio", "triton")
"""What a torch candidate brings from its own index, as far as the index has it."""


class SourceKind(StrEnum):
    """The source of a candidate."""

    INDEX = "index"
    WHEEL = "wheel"
    COMMIT = "commit"
    TREE = "tree"
    SDIST = "sdist"


@dataclass(frozen=True, kw_only=True)
class File:
    """One file that is installed: its name, where it is (without credentials), and its SHA-256.

    `size` is in bytes, `uploaded` the time of the index (`2026-11-27T03:10:00Z`); None: not known.
    """

    name: str
    url: str
    sha256: str
    size: int | None = None
    uploaded: str | None = None

    @property
    def project(self) -> str:
        """The normalized name of the project whose file it is."""
        return str(parse_wheel_filename(self.name)[0])

    @property
    def version(self) -> str:
        """The version of the file, with its local part."""
        return str(parse_wheel_filename(self.name)[1])

    @classmethod
    def of_requirement(cls, text: str) -> File:
        """Return the file of a requirement as `requirement` has it. Raises ValueError."""
        address, _, sha256 = text.partition(" @ ")[2].partition("#sha256=")
        if not address or not sha256:
            raise ValueError(f"{text!r} does not name a file by address and hash")
        name = unquote(urlsplit(address).path).rpartition("/")[2]
        return cls(name=name, url=address, sha256=sha256)

    def runs_on(self, python: str) -> bool:
        """Tell whether the wheel is for this minor release of Python, such as 3.12."""
        major, minor = map(int, python.split("."))
        for tag in parse_wheel_filename(self.name)[3]:
            kind, digits = tag.interpreter[:2], tag.interpreter[2:]
            if kind == "py" and digits in (str(major), f"{major}{minor}"):
                return True
            if kind != "cp" or not digits.startswith(str(major)) or not digits[1:].isdecimal():
                continue
            if digits == f"{major}{minor}" and tag.abi in (f"cp{digits}", "abi3", "none"):
                return True
            if tag.abi == "abi3" and int(digits[1:]) <= minor:
                return True
        return False

    @property
    def requirement(self) -> str:
        """The requirement that installs this file and no other."""
        return f"{self.project} @ {self.url}#sha256={self.sha256}"


@dataclass(frozen=True, kw_only=True)
class OnIndex:
    """A version on a package index; `channel` is the name by which a person asked for the index.

    `pythons` are those that it must be for, `companions` those that a person named, each as
    `torchvision==0.30.0` or by the path or address of its wheel: the next build is asked for so.
    """

    index: str
    version: str
    channel: str | None = None
    pythons: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()

    kind = SourceKind.INDEX


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """One wheel, by its path or address."""

    location: str
    sha256: str

    kind = SourceKind.WHEEL


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A commit of a git repository, by its full hash."""

    repository: str
    revision: str

    kind = SourceKind.COMMIT


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A folder of sources; `state` is the digest of what it held when it was added."""

    path: str
    state: str

    kind = SourceKind.TREE


@dataclass(frozen=True, kw_only=True)
class Sdist:
    """A source distribution, by its path or address."""

    location: str
    sha256: str

    kind = SourceKind.SDIST


def companion_pin(text: str) -> tuple[str, str] | None:
    """Return the name and the version of `torchvision==0.30.0`; None for the place of a wheel."""
    name, equals, version = text.partition("==")
    return (name, version) if equals else None


CandidateSource = OnIndex | Wheel | Commit | Tree | Sdist


WAYS: Mapping[Made, str] = {
    Made.PUBLISHED: "wheel",
    Made.COMPILED: "build",
    Made.WITH_EXTENSIONS: "extensions",
}
"""The ways to the platform cuda, as the file of candidates and JSON name them."""


@dataclass(frozen=True, kw_only=True)
class OnCuda:
    """The way to a vLLM on the platform cuda, as it was found when the candidate was added.

    `files` are the wheels of the commit, or those that have the extensions; a build has none.
    `index` has the wheels of the commit.
    """

    way: Made
    files: tuple[File, ...] = ()
    index: str | None = None

    def file(self, python: str) -> File | None:
        """Return the wheel for a Python; None without one."""
        return next((file for file in self.files if file.runs_on(python)), None)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A build of torch or vLLM that is not a release. Its name is its factor of tox.

    `version` is as its files have it, with a local part. `files` are its own wheels, one for each
    Python or one for all; without any it is built from its source. `companions` are the wheels
    that are installed with it (torchvision, torchaudio, triton), `without` those that its index
    does not have. `pins` are releases from the user's own index: of a vLLM the torch
    and the companions that its metadata requires, of a torch the companions that no wheel is given
    for. `python` is its range of Pythons, `cuda` the release of CUDA that it is built for,
    `revision` the git commit that it was built from, as far as a file of it says (maybe its
    beginning alone). `on_cuda` is how a vLLM from sources is had on the platform cuda (None: it was
    added for the CPU alone); it is the same candidate in each way. Raises CandidateError if
    these contradict each other.
    """

    project: Project
    name: str
    version: str
    source: CandidateSource
    files: tuple[File, ...] = ()
    companions: tuple[File, ...] = ()
    without: tuple[str, ...] = ()
    pins: Mapping[str, str] = field(default_factory=dict)
    python: SpecifierSet | None = None
    cuda: str | None = None
    revision: str | None = None
    on_cuda: OnCuda | None = None

    def __post_init__(self) -> None:
        """Refuse a candidate whose parts do not go together."""
        try:
            named = candidate_project(self.name)
        except CellError as error:
            raise CandidateError(str(error)) from None
        where = f"candidate {self.name!r}"
        if named != self.project:
            raise CandidateError(f"{where}: is a name of {named}, not of {self.project}; rename it")
        built = isinstance(self.source, (Commit, Tree, Sdist))
        if built and self.project is Project.TORCH:
            raise CandidateError(
                f"{where}: torch is not built here; name an index or a wheel: --index, --wheel"
            )
        if built == bool(self.files):
            more = "has wheels and a source to build" if built else "has no wheel"
            raise CandidateError(f"{where}: {more}; add it again by matrix candidate add")
        if self.project is Project.VLLM and "torch" not in self.pins:
            raise CandidateError(
                f"{where}: the torch that it pins is not known; add it again with --pin 2.14.0"
            )
        for file in self.files:
            self._check_file(where, file, own=True)
        for file in self.companions:
            self._check_file(where, file, own=False)
        self._check_on_cuda(where)

    def _check_file(self, where: str, file: File, *, own: bool) -> None:
        project, version = _named(where, file)
        if own and project != self.project:
            raise CandidateError(f"{where}: {file.name} is a wheel of {project}")
        if own and Version(version) != parse_version(self.version):
            raise CandidateError(f"{where}: {file.name} is not of version {self.version}")
        if not own and project not in TORCH_COMPANIONS:
            known = ", ".join(TORCH_COMPANIONS)
            raise CandidateError(f"{where}: {file.name} is not a companion; these are {known}")

    def _check_on_cuda(self, where: str) -> None:
        way = self.on_cuda
        if way is None:
            return
        if not self.is_built:
            raise CandidateError(
                f"{where}: has wheels of its own, and on-cuda is for sources alone; delete it"
            )
        if way.way not in WAYS:
            raise CandidateError(f"{where}: {way.way}, and cuda needs its extensions")
        if (way.way is Made.COMPILED) == bool(way.files):
            raise CandidateError(f"{where}: the way {WAYS[way.way]} does not go with its files")
        for file in way.files:
            project, version = _named(where, file)
            if project != self.project:
                raise CandidateError(f"{where}: {file.name} is a wheel of {project}")
            same = Version(version).public == parse_version(self.version).public
            if way.way is Made.PUBLISHED and not same:
                raise CandidateError(f"{where}: {file.name} is not of version {self.version}")

    @property
    def identity(self) -> str:
        """The digest that distinguishes this build, in the form of `matrix.catalog.cells`."""
        source = self.source
        if isinstance(source, Commit):
            parts: tuple[str, ...] = (source.revision, self.version)
        elif isinstance(source, Tree):
            parts = (source.state, self.version)
        elif isinstance(source, Sdist):
            parts = (source.sha256, self.version)
        else:
            parts = tuple(sorted(file.sha256 for file in (*self.files, *self.companions)))
            if self.project is Project.TORCH:
                parts += tuple(f"{name}=={version}" for name, version in sorted(self.pins.items()))
        text = "\n".join((str(source.kind), *parts))
        return f"b{hashlib.sha256(text.encode()).hexdigest()[:15]}"

    @property
    def build(self) -> Build:
        """Its name and identity."""
        return Build(name=self.name, identity=self.identity)

    @property
    def key(self) -> str:
        """Its release key, which stands for it wherever a release has its version."""
        return self.build.key(self.version)

    @property
    def is_built(self) -> bool:
        """Tell whether it is built from sources, since nobody publishes a wheel of it."""
        return not self.files

    @property
    def sources(self) -> tuple[SourceKind, str] | None:
        """The kind and the digest of the sources that it is built from; None if it has wheels.

        Of a commit the digest is its full hash.
        """
        source = self.source
        if isinstance(source, Commit):
            return source.kind, source.revision
        if isinstance(source, Tree):
            return source.kind, source.state
        return (source.kind, source.sha256) if isinstance(source, Sdist) else None

    @property
    def index(self) -> str | None:
        """The index that its files are from; None for a single wheel and for sources."""
        return self.source.index if isinstance(self.source, OnIndex) else None

    def file(self, python: str) -> File | None:
        """Return its own wheel for a Python; None without one."""
        return next((file for file in self.files if file.runs_on(python)), None)

    @property
    def has_extensions(self) -> bool:
        """Tell whether there is a wheel, its own or on cuda, that says which extensions it has."""
        return bool(self.files or (self.on_cuda is not None and self.on_cuda.files))

    def extensions(self, python: str) -> File | None:
        """Return the wheel that has its extensions on a Python; None if nobody publishes it.

        Of a vLLM from sources that is the one of its way to cuda.
        """
        if self.is_built and self.on_cuda is not None:
            return self.on_cuda.file(python)
        return self.file(python)

    def companions_on(self, python: str) -> tuple[File, ...]:
        """Return the wheels of its companions for a Python."""
        found = {file.project: file for file in self.companions if file.runs_on(python)}
        return tuple(found[name] for name in TORCH_COMPANIONS if name in found)

    def accepts(self, python: str) -> bool:
        """Tell whether it can be installed on a Python, as far as is known."""
        ranged = self.python is None or self.python.contains(python)
        return ranged and (self.is_built or self.file(python) is not None)

    def requirements(self, python: str) -> tuple[str, ...]:
        """Return what installs it and its companions on a Python: each file by address and hash.

        Raises CandidateError if it has no wheel for that Python.
        """
        own = self.file(python)
        if own is None:
            raise CandidateError(self._no_wheel(python))
        return tuple(file.requirement for file in (own, *self.companions_on(python)))

    def _no_wheel(self, python: str) -> str:
        if self.is_built:
            return f"candidate {self.name!r}: is built from its sources, and has no wheel"
        there = [file.name for file in self.files]
        return (
            f"candidate {self.name!r}: has no wheel for Python {python}, only {', '.join(there)};"
            f" use another Python, or add it again if its index has one"
        )


def _named(where: str, file: File) -> tuple[str, str]:
    """Return the project and the version in the name of a wheel. Raises CandidateError."""
    try:
        named = file.project, file.version
    except (InvalidWheelFilename, ValueError):
        named = None
    # `packaging` takes any text for a platform, also one that leads to another folder.
    if named is None or not _NAME.fullmatch(file.name):
        raise CandidateError(f"{where}: {file.name!r} is not the name of a wheel")
    return named
