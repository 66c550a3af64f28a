"""The answer to each fault: whose it is, which releases have and need it, what to install.

Pure but for the data that it asks for, and for the records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from matrix._util.versions import VersionRange, parse_version
from matrix.catalog.cells import CellError
from matrix.catalog.releases_file import load_releases
from matrix.explain.choice import InstallChoice
from matrix.explain.evidence import SymbolEvidence
from matrix.explain.extensions import extension_answer
from matrix.explain.imports import import_answer
from matrix.explain.model import (
    Fault,
    FaultAnswer,
    FaultKind,
    FaultRemedy,
    Meaning,
    RemedyCode,
    TextFaults,
    TextVersions,
)
from matrix.explain.modules import module_answer
from matrix.explain.outside import outside_answer
from matrix.explain.packages import conflict_answer, flashinfer_answer, vision_answer
from matrix.explain.recognise import LOAD_FAILURE
from matrix.explain.symbols import library_answer, symbol_answer
from matrix.explain.waived import links_of
from matrix.rules.notes import Note, load_notes
from matrix.rules.waivers import Waivers, load_waivers

if TYPE_CHECKING:
    from matrix.explain.records import CleanCell
    from matrix.explain.third import ThirdWheel
    from matrix.store.layout import RecordSource


_LONGEST_GPU = 60  # characters of the name of a GPU


@dataclass(kw_only=True)
class Explainer:
    """Answers faults from the package's data, and from the records of some places.

    `choice` is what there is to install. `places` is None if no record is to be read. `wheels`
    are those of a third package. `progress` gets a line for records that cannot be read.
    """

    evidence: SymbolEvidence = field(default_factory=SymbolEvidence)
    choice: InstallChoice = field(default_factory=lambda: InstallChoice.of(load_releases()))
    waivers: Waivers = field(default_factory=load_waivers)
    notes: Sequence[Note] = field(default_factory=load_notes)
    places: Sequence[RecordSource] | None = None
    wheels: tuple[ThirdWheel, ...] = ()
    progress: Callable[[str], None] = lambda _: None

    def answers(self, text: TextFaults) -> tuple[FaultAnswer, ...]:
        """Return the answer to each fault of a text, in its order."""
        found = [self._answer(fault, text) for fault in text.faults]
        found = [self._with_wheels(answer) for answer in found]
        if self.places is not None and found:
            from matrix.explain.records import look_through

            looked = look_through(self.places, text.faults, self.choice.releases, self.progress)
            found = [
                replace(answer, records=looked.shown.get(place, ()), looked=looked.count)
                for place, answer in enumerate(found)
            ]
            found = [self._with_clean(answer, looked.clean) for answer in found]
        found = [self._with_notes(answer, text.versions) for answer in found]
        return tuple(_settled(answer, self.waivers) for answer in found)

    def of_wheels(self) -> Iterator[FaultAnswer]:
        """Yield the answer to each wheel of a third package: which torch it links with."""
        if not self.wheels:
            return
        from matrix.explain.third import wheel_answer

        for wheel in self.wheels:
            yield wheel_answer(wheel, self.choice, self.evidence)

    def _answer(self, fault: Fault, text: TextFaults) -> FaultAnswer:
        versions: TextVersions = text.versions
        choice, evidence = self._choice_for(versions), self.evidence
        answers: Mapping[FaultKind, Callable[[], FaultAnswer]] = {
            FaultKind.UNDEFINED_SYMBOL: lambda: symbol_answer(fault, versions, choice, evidence),
            FaultKind.MISSING_LIBRARY: lambda: library_answer(fault, versions, choice, evidence),
            FaultKind.MISSING_MODULE: lambda: module_answer(fault, versions, choice, evidence),
            FaultKind.MISSING_EXTENSION: lambda: extension_answer(
                fault, versions, choice, evidence
            ),
            FaultKind.OLD_LIBRARY: lambda: self._of_machine(fault, versions, choice),
            FaultKind.OLD_DRIVER: lambda: self._of_machine(fault, versions, choice),
            FaultKind.NO_KERNEL: lambda: self._of_machine(fault, versions, choice),
            FaultKind.CONFLICT: lambda: conflict_answer(fault, choice),
            FaultKind.TORCHVISION: lambda: vision_answer(fault, versions, choice),
            FaultKind.FLASHINFER: lambda: flashinfer_answer(fault, choice),
            FaultKind.RECOMPILES: lambda: _recompiles(fault),
        }
        if fault.kind in answers:
            return answers[fault.kind]()
        if fault.kind in (FaultKind.OTHER_PACKAGE, FaultKind.UNKNOWN_MODEL):
            return import_answer(fault, versions, choice)
        if fault.kind is not FaultKind.UNKNOWN:
            torch = choice.torches.get(versions.torch or "")
            return outside_answer(fault, None if torch is None else torch.cuda)
        if (gpu := _named_gpu(fault)) is not None:
            named = replace(versions, gpu=gpu.subject)
            return self._of_machine(gpu, named, self._choice_for(named))
        nearest = str(text.nearest) if text.nearest else None
        return FaultAnswer(fault=fault, meaning=Meaning.UNKNOWN, nearest=nearest)

    def _choice_for(self, versions: TextVersions) -> InstallChoice:
        """Return what there is to install on the machine that a text names."""
        if versions.driver is None and versions.gpu is None:
            return self.choice
        from matrix.explain.wheels import for_machine

        return for_machine(self.choice, versions)

    def _of_machine(
        self, fault: Fault, versions: TextVersions, choice: InstallChoice
    ) -> FaultAnswer:
        # What fits a machine takes long to import, and few texts ask it.
        from matrix.explain.machine import driver_answer, kernel_answer, old_library_answer

        if fault.kind is FaultKind.OLD_DRIVER:
            return driver_answer(fault, versions, choice)
        if fault.kind is FaultKind.NO_KERNEL:
            return kernel_answer(fault, versions, choice)
        return old_library_answer(fault, choice, self.evidence)

    def _with_clean(self, answer: FaultAnswer, cells: Sequence[CleanCell]) -> FaultAnswer:
        """Return the answer with the newest pair of these cells, whose warm starts load all.

        Only a run on CUDA supports an install: other platforms compile other code.
        """
        if answer.meaning not in (Meaning.COMPILED_AGAIN, Meaning.NOT_LOADED):
            return answer
        for clean in cells:
            with contextlib.suppress(CellError):
                cell = self.choice.releases.resolve(clean.cell)
                row = self.choice.row(cell.vllm)
                is_pin = row is not None and row.torch == cell.torch
                install = self.choice.install(row if is_pin and clean.is_on_cuda else None)
                return replace(
                    answer,
                    operands={
                        **answer.operands,
                        "clean": f"vLLM {cell.vllm} with torch {cell.torch}",
                        "clean platform": clean.platform,
                        "clean cases": str(clean.cases),
                    },
                    remedies=(*answer.remedies, *install),
                )
        return answer

    def _with_notes(self, answer: FaultAnswer, versions: TextVersions) -> FaultAnswer:
        """Return an answer that nothing explains with the notes on its signature.

        A note says nothing of a release that the text names and the note does not cover.
        """
        if answer.meaning is not Meaning.UNKNOWN:
            return answer
        notes = tuple(
            note
            for note in self.notes
            if note.signature == answer.fault.signature
            and _may_cover(note.torch, versions.torch)
            and _may_cover(note.vllm, versions.vllm)
        )
        return replace(answer, notes=notes, meaning=Meaning.NOTED) if notes else answer

    def _with_wheels(self, answer: FaultAnswer) -> FaultAnswer:
        """Return the answer with the wheels of others that need its symbol or library."""
        subject = answer.fault.subject
        third = tuple(wheel.file for wheel in self.wheels if subject and wheel.needs(subject))
        return replace(answer, third=third)


def _named_gpu(fault: Fault) -> Fault | None:
    """Return the fault of a text that is the name of a GPU alone; None for another text."""
    if len(fault.signature) > _LONGEST_GPU:
        return None
    from matrix.catalog.hardware_file import load_hardware

    # A signature has <size> for 80GB, which a driver writes behind a name.
    name = fault.signature.partition("<")[0].rstrip(" -")
    if load_hardware().capability_of(name) is None:
        return None
    return Fault(kind=FaultKind.NO_KERNEL, signature=fault.signature, subject=name, named=True)


def _recompiles(fault: Fault) -> FaultAnswer:
    if fault.subject == LOAD_FAILURE:
        meaning = Meaning.NOT_LOADED
    else:
        meaning = Meaning.LOADED_ALL if fault.has == "0" else Meaning.COMPILED_AGAIN
    return FaultAnswer(fault=fault, meaning=meaning, operands={"count": fault.has or ""})


def _may_cover(covered: VersionRange, named: str | None) -> bool:
    """Return whether the release that a text names is in a range; True where nobody can tell."""
    if named is None:
        return True
    with contextlib.suppress(ValueError):  # InvalidVersion is one
        return covered.contains(parse_version(named))
    return True


def _settled(answer: FaultAnswer, waivers: Waivers) -> FaultAnswer:
    """Return the answer with what its records add: links, their commands, that they know it."""
    records = answer.records or ()
    links = dict.fromkeys(link for record in records for link in record.issues)
    links |= dict.fromkeys(links_of(answer.fault.signature, waivers))
    links |= dict.fromkeys(
        item for note in answer.notes for item in note.evidence if item.startswith("https://")
    )
    remedies = answer.remedies
    shows = answer.fault.kind in (FaultKind.RECOMPILES, FaultKind.UNKNOWN)
    if records and shows and not answer.notes:
        remedies = (*remedies, FaultRemedy(code=RemedyCode.SHOW, what=records[0].path))
    meaning = answer.meaning
    if meaning is Meaning.UNKNOWN and (records or links):
        meaning = Meaning.RECORDED
    return replace(answer, links=tuple(links), remedies=remedies, meaning=meaning)
