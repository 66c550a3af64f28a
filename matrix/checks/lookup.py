"""The recorded answers of the static checks *resolves* and *links*, from the package's data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from matrix._util.versions import parse_version
from matrix.catalog.cells import Cell
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.checks.facts import AnyFact, LinkCode, LinkFact
from matrix.checks.linkage.link import Abi, Linkage, Tables, load_tables
from matrix.checks.linkage.tables import SymbolsError
from matrix.checks.linkage.why import link_fact, shared_fact
from matrix.checks.resolution.cache import (
    Resolution,
    Resolutions,
    load_candidate_resolutions,
    load_resolutions,
)
from matrix.record.model import Platform

if TYPE_CHECKING:
    from matrix.catalog.candidates.model import Candidate


class Answer(NamedTuple):
    """The answer of a static check for a cell; the `facts` give the reason, or what is missing.

    `cause` are the facts without what differs from pair to pair, so that a report can show pairs
    that fail alike together; empty if the facts themselves do. `asked` is the day of the
    question, where the answer can change. `unknown`: there is no answer yet, only why (with `ok`
    false). `promised`: what is missing belongs to torch's stable ABI, which a torch newer than the
    pin promises to keep.
    """

    ok: bool
    facts: tuple[AnyFact, ...] = ()
    asked: str | None = None
    cause: tuple[AnyFact, ...] = ()
    promised: bool = False
    unknown: bool = False


class Answers:
    """The answers of the static checks; None for a cell that was not asked."""

    def __init__(self, releases: Releases, resolutions: Resolutions, tables: Tables) -> None:
        """Answer from these; `faults` gets a line for each table that turns out to be damaged."""
        self.faults: list[str] = []
        self._pins = {release.version: release.torch for release in releases.every_vllm}
        self._resolutions = resolutions
        self._tables = tables
        self._read = (
            {*tables.vllm_versions, *tables.candidates},
            {*tables.torch_versions, *tables.candidates},
        )
        self._candidates = {build.key: build for build in releases.candidates.of(Project.VLLM)}

    @property
    def asked(self) -> tuple[str, str] | None:
        """The first and the last day on which a resolver was asked; None if none was."""
        days = sorted({row.asked for row in self._resolutions.rows})
        return (days[0].isoformat(), days[-1].isoformat()) if days else None

    def resolves(self, cell: Cell, platform: Platform) -> Answer | None:
        """Tell whether a resolver finds a full set of packages for the cell.

        The ladder asks for each platform, and both install the same wheels; but those with a torch
        that is built without CUDA answer for `cpu` alone, and so do those with a vLLM from sources,
        of which the resolver sees the wheel that was built without compiling. For an off-pin cell
        only an answer with its torch forced counts, as its environment forces it.
        """
        found = self._resolved(cell, off_pin=self._pins.get(cell.vllm) != cell.torch)
        if found is None:
            return None
        if found.ok and found.cuda is None and platform == Platform.CUDA:
            return None
        candidate = self._candidates.get(cell.vllm)
        if candidate is not None and candidate.is_built and platform == Platform.CUDA:
            return None
        return Answer(
            ok=found.ok,
            facts=found.facts,
            asked=found.asked.isoformat(),
            unknown=found.is_unknown,
        )

    def packages(self, cell: Cell, *, off_pin: bool) -> Resolution | None:
        """Return the answer with the versions that a resolver found for the cell, or None.

        None too where it asked more indexes than the default one, which another machine may not.
        """
        found = self._resolved(cell, off_pin=off_pin)
        return found if found is not None and found.ok and not found.more_indexes else None

    def _resolved(self, cell: Cell, *, off_pin: bool) -> Resolution | None:
        found = self._resolutions.resolved(cell)
        return None if found is None or (off_pin and found.override is None) else found

    def links(self, cell: Cell) -> Answer | None:
        """Tell whether that torch exports what vLLM's core extensions import.

        Where it does, its facts say which features are missing. What is built from its sources has
        a wheel that says which extensions it has only where its way to cuda names one: else that is
        unknown on cuda, and on the cpu none is loaded.
        """
        candidate = self._candidates.get(cell.vllm)
        if candidate is not None and not candidate.has_extensions:
            return _unknown(LinkCode.BUILT)
        if cell.vllm not in self._read[0] or cell.torch not in self._read[1]:
            return None
        try:
            if candidate is not None and (other := self._unread(candidate, cell.python)):
                return other
            return self._answer(self._tables.link(cell.vllm, cell.torch, cell.python))
        except SymbolsError as error:
            if str(error) not in self.faults:
                self.faults.append(str(error))
            return None

    def features(self, cell: Cell) -> Mapping[str, bool] | None:
        """Return the features that the cell's vLLM brings, and whether each links with its torch.

        None where nobody knows, or where the core does not link.
        """
        answer = self.links(cell)
        if answer is None or not answer.ok:
            return None
        return self._tables.link(cell.vllm, cell.torch, cell.python).features

    def _unread(self, candidate: Candidate, python: str) -> Answer | None:
        """Return why the table of a vLLM does not answer for a Python; None if it does."""
        table, file = self._tables.vllm(candidate.key), candidate.extensions(python)
        if file is None or file.sha256 != table.wheel.sha256:
            return _unknown(LinkCode.OTHER_WHEEL)
        return None if table.extensions else _unknown(LinkCode.NO_EXTENSIONS)

    def _answer(self, linkage: Linkage) -> Answer:
        broken = next((linked for linked in linkage.extensions if not linked.ok), None)
        if broken is None:
            return _LINKS
        if broken.feature is not None:  # the core ones come first
            features = linkage.without
            return Answer(
                ok=True,
                facts=(link_fact(linkage, broken, features),),
                cause=(LinkFact(code=LinkCode.WITHOUT, features=features),),
            )
        shared = shared_fact(broken)
        return Answer(
            ok=False,
            facts=(link_fact(linkage, broken),),
            cause=() if shared is None else (shared,),
            promised=self._promised(linkage),
        )

    def _promised(self, linkage: Linkage) -> bool:
        """Tell whether a core extension on torch's stable ABI misses symbols of a newer torch."""
        core = (linked for linked in linkage.extensions if linked.feature is None)
        if not any(linked.abi is Abi.STABLE and linked.symbols for linked in core):
            return False
        pin = self._pins.get(linkage.vllm)
        return pin is not None and parse_version(linkage.torch) >= parse_version(pin)


_LINKS = Answer(ok=True)


def _unknown(code: LinkCode) -> Answer:
    return Answer(ok=False, unknown=True, facts=(LinkFact(code=code),))


def load_answers(
    releases: Releases, resolutions: Path | None = None, tables: Path | None = None
) -> Answers:
    """Read the answers, by default those of the package.

    Raises MatrixError, which names the file, where the resolutions are damaged; those of candidates
    are a cache and stop nothing.
    """
    answers = load_resolutions(resolutions)
    own: dict[str, Path] = {}
    if releases.candidates.every:
        from matrix.checks.linkage.candidate import candidate_tables

        own = candidate_tables(releases.candidates.every)
        answers = answers.including(load_candidate_resolutions())
    symbols = load_tables(candidates=own) if tables is None else load_tables(tables, own)
    return Answers(releases, answers, symbols)
