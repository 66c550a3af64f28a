"""Add a candidate: find it where a person says, and write it into the file of candidates.

It asks an index, fetches files, runs git, and removes what was known of the build before.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion

from matrix._util.files import from_here
from matrix._util.reported import Say
from matrix._util.text import plural
from matrix._util.versions import parse_version
from matrix.catalog.candidates import sources
from matrix.catalog.candidates.channels import place_of
from matrix.catalog.candidates.collection import Candidates
from matrix.catalog.candidates.file import change_candidates, load_candidates
from matrix.catalog.candidates.gathered import CandidateRequest, Gathered, pythons_of
from matrix.catalog.candidates.model import TORCH_COMPANIONS, Candidate
from matrix.catalog.candidates.on_cuda import CudaWays
from matrix.catalog.candidates.published import from_index
from matrix.catalog.candidates.update import Update, update
from matrix.catalog.candidates.wheels import from_wheel
from matrix.catalog.cells import CellError, candidate_project, environment_name, factor_of
from matrix.catalog.index import Index
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.checks.candidate_cache import forget
from matrix.checks.vllm_build.wheels import forget_wheels
from matrix.errors import MatrixError
from matrix.record.model import Platform
from matrix.run.preflight import choose_platform

_SOURCES = ("commit", "tree", "sdist")


@dataclass(frozen=True, kw_only=True)
class AddRequest:
    """A candidate as a person asks for it: what it is called, and one place where it is.

    The fields are the options of `matrix candidate add`; of `index`, `wheel`, `commit`, `tree` and
    `sdist` one is given. Raises MatrixError for options that do not go together, and for a text
    that is not of the form of its option.
    """

    name: str
    index: str | None = None
    wheel: str | None = None
    commit: str | None = None
    tree: str | None = None
    sdist: str | None = None
    version: str | None = None
    sha256: str | None = None
    python: Sequence[str] = ()
    pin: str | None = None
    companion: Sequence[str] = ()
    platform: str | None = None
    build: bool = False
    no_wheel: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        project = self.project
        self._check_given()
        if project is Project.VLLM and self.companion:
            raise MatrixError("--companion: goes with a torch; a vLLM takes those of its torch")
        if project is Project.TORCH and self.pin is not None:
            raise MatrixError("--pin: goes with a vLLM; a torch pins none")
        for name in _SOURCES:
            if project is Project.TORCH and getattr(self, name) is not None:
                raise MatrixError(f"--{name}: goes with a vLLM; torch comes as a wheel")
        if self.sha256 is not None and self.wheel is None and self.sdist is None:
            raise MatrixError(
                "--sha256: goes with --wheel and --sdist; an index has its own hashes"
            )
        if self.version is not None and (self.wheel or self.sdist) is not None:
            raise MatrixError(
                "--version: goes with --index, --commit and --tree; a file has its own"
            )
        for option in ("build", "no_wheel", "platform"):
            if getattr(self, option) and not self.is_from_sources:
                raise MatrixError(
                    f"{_option(option)}: goes with --commit, --tree and --sdist alone; the files of"
                    " an index and a wheel are as they are"
                )
        for option in ("version", "pin"):
            if getattr(self, option) is not None:
                _check_version(f"--{option}", getattr(self, option))

    def _check_given(self) -> None:
        """Refuse an option without a text, such as that of a variable that is not set."""
        for name in ("index", "wheel", *_SOURCES):
            if getattr(self, name) == "":
                raise MatrixError(f"--{name}: is empty; name one")
        if "" in self.companion:
            raise MatrixError("--companion: is empty; name one")

    @property
    def project(self) -> Project:
        """The project that the name is of."""
        return Project(candidate_project(self.name))

    @property
    def is_from_sources(self) -> bool:
        """Whether it is built from vLLM's sources."""
        return any(getattr(self, name) is not None for name in _SOURCES)

    @property
    def wanted(self) -> CandidateRequest:
        """The request apart from the place. Raises MatrixError for another companion."""
        return CandidateRequest(
            name=self.name,
            project=self.project,
            pythons=tuple(self.python),
            pin=self.pin,
            companions=tuple(text for text in self.companion if "==" not in text),
            companion_pins=_pins(self.companion),
        )


@dataclass(frozen=True, kw_only=True)
class Added:
    """A candidate in the file: what the addition did, where it runs, and notes about it.

    `cell` is the name of a cell of it to begin with; None if it goes with no release.
    """

    candidate: Candidate
    update: Update
    notes: tuple[str, ...]
    pythons: tuple[str, ...]
    cell: str | None


def add_candidate(request: AddRequest, releases: Releases, say: Say) -> Added:
    """Find a candidate, write it into the file of candidates, and return what came of it.

    What was found out without a run of the build before is removed. Raises MatrixError if it
    cannot be had, or its name belongs to another; the file is then as it was.
    """
    wanted = request.wanted
    load_candidates()  # a file that is wrong is wrong at once
    gathered = _gather(request, wanted, releases, say)
    candidate = gathered.candidate
    _check_pin(request, candidate)
    old, done, after = None, Update.UNCHANGED, releases.candidates

    def changed(now: Candidates) -> Candidates | None:
        nonlocal old, done, after
        old = now.get(candidate.name)
        done = update(old, candidate, force=request.force)
        after = now.including(candidate)
        return None if done is Update.UNCHANGED else after

    path = change_candidates(changed)
    if done is not Update.UNCHANGED:
        say(f"{from_here(path)} was written")
        if old is not None and old.build != candidate.build:
            gone = old.build
            forget(lambda build: build == gone)
            _forget_wheels(old, after, say)
    return Added(
        candidate=candidate,
        update=done,
        notes=gathered.notes,
        pythons=pythons_of(candidate, releases.pythons),
        cell=_example(releases.including(candidate), candidate, wanted.pythons),
    )


def _check_pin(request: AddRequest, candidate: Candidate) -> None:
    """Raise MatrixError if a torch was named, and the metadata of the vLLM pins another."""
    if request.pin is None:
        return
    pinned = candidate.pins["torch"]
    if parse_version(request.pin).public != parse_version(pinned).public:
        raise MatrixError(
            f"--pin {request.pin}: vllm {candidate.version} pins torch {pinned}; leave --pin out"
        )


def remove_candidate(name: str, say: Say) -> Path:
    """Take a candidate out of its file and out of the cache, and return the file.

    Raises MatrixError if nobody added it.
    """
    removed: list[tuple[Candidate, Candidates]] = []

    def without(now: Candidates) -> Candidates:
        left = now.excluding(name)
        removed.append((now.named(name), left))
        return left

    path = change_candidates(without)
    forget(lambda build: build.name == name)
    for candidate, left in removed:
        _forget_wheels(candidate, left, say)
    return path


def _forget_wheels(candidate: Candidate, left: Candidates, say: Say) -> None:
    """Remove from the cache what was built of a candidate's sources that nobody has now."""
    if removed := forget_wheels(candidate, left.every):
        what = "was" if removed == 1 else "were"
        say(f"{plural(removed, 'wheel')} built of it {what} removed from the cache")


def _example(releases: Releases, candidate: Candidate, asked: Sequence[str]) -> str | None:
    """Return the name of a cell of a candidate: with the newest vLLM, or the torch of its pin.

    Its Python is one that was asked for, else this one, else the newest that goes with both.
    """
    if candidate.project is Project.TORCH:
        others = [factor_of("vllm", row.version) for row in reversed(releases.vllm)]
    else:
        others = [factor_of("torch", candidate.pins["torch"])]
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    pythons = (*asked, own, *reversed(releases.pythons))
    for other in dict.fromkeys(others):
        for python in pythons:
            name = environment_name(python, candidate.name, other)
            try:
                return releases.resolve(name).name
            except CellError:
                continue
    return None


def _gather(
    request: AddRequest, wanted: CandidateRequest, releases: Releases, say: Say
) -> Gathered:
    """Return the candidate from the place that is named."""
    if request.wheel is not None:
        return from_wheel(wanted, request.wheel, request.sha256, releases)
    ways = _cuda_ways(request, wanted, releases, say) if request.is_from_sources else None
    if request.sdist is not None:
        return sources.from_sdist(wanted, request.sdist, request.sha256, ways)
    if request.commit is not None:
        return sources.from_commit(wanted, request.commit, request.version, say, ways)
    if request.tree is not None:
        return sources.from_tree(wanted, request.tree, request.version, ways)
    assert request.index is not None  # one place is named
    channels, flavour = releases.candidates.channels, releases.cuda_flavour
    place = place_of(request.index, wanted.project, channels, flavour=flavour)
    index = Index(place.address)
    try:
        return from_index(wanted, place, request.version, releases, index=index)
    finally:
        index.close()


def _cuda_ways(
    request: AddRequest, wanted: CandidateRequest, releases: Releases, say: Say
) -> CudaWays | None:
    """Return what finds the way of a vLLM from sources to cuda; None for the platform cpu."""
    asked = request.platform or "auto"
    if choose_platform(asked) is not Platform.CUDA:
        for option in ("build", "no_wheel"):
            if getattr(request, option):
                here = "no GPU is visible here" if asked == "auto" else "cpu is named"
                raise MatrixError(
                    f"{_option(option)}: is for the platform cuda, and {here}; name it:"
                    " --platform cuda"
                )
        return None
    return CudaWays(
        releases=releases,
        pythons=wanted.pythons or releases.pythons,
        say=say,
        build=request.build,
        wheel=not request.no_wheel,
        # Nobody named the platform: a GPU is here.
        otherwise=", or add it for the CPU: --platform cpu" if asked == "auto" else "",
    )


def _pins(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, version = text.partition("==")
        if equals:
            if name not in TORCH_COMPANIONS[:2]:
                raise MatrixError(
                    f"--companion {text}: {name!r} is not torchvision or torchaudio; name a wheel"
                )
            found[name] = _check_version(f"--companion {text}", version)
    return found


def _check_version(option: str, text: str) -> str:
    try:
        parse_version(text)
    except InvalidVersion:
        raise MatrixError(f"{option}: {text!r} is not a version; write it as 2.16.0") from None
    return text


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
