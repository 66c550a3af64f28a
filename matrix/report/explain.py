"""The answer of `matrix explain`: five parts a fault, each a line but for what there is to do."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from matrix._util.text import clean, clip, listed, plural
from matrix.advice.install import Install
from matrix.explain.model import (
    FaultAnswer,
    FaultKind,
    FaultRemedy,
    KnownReleases,
    Meaning,
    ProcessorCode,
    RemedyCode,
    ShownBy,
    TextFaults,
)
from matrix.report.explain_means import means, spanned
from matrix.report.explain_outside import COMMANDS, NAME_LIMIT, NOTES, releases, remedy_words
from matrix.report.notes import pairs_of
from matrix.report.uv_commands import command_line, pip_install, pip_uninstall
from matrix.rules.notes import Note

_FILES = 4  # files of vLLM that are named
_RECORDS = 2  # records that are named; JSON has them all
_PLAIN: Mapping[RemedyCode, str] = {
    RemedyCode.OUTSIDE_SOURCES: "start Python in a folder that does not contain vLLM's sources",
    RemedyCode.OWN_DRIVER: "let the driver's own libcuda.so.1 be loaded: take CUDA's folder compat"
    " out of LD_LIBRARY_PATH and /etc/ld.so.conf.d (`ldconfig -p | grep libcuda.so.1` shows which"
    " are found), and restart after an update of the driver",
    RemedyCode.SAME_DRIVER: "restart the machine, so that the kernel module of the installed driver"
    " is loaded (`cat /proc/driver/nvidia/version` shows the one that runs); in a container, remove"
    " the driver's libraries that it brings of its own",
    RemedyCode.NAMED_IMPORT: "look above it in the log for `Failed to import from vllm`, which"
    " names the cause, and explain that line",
    RemedyCode.SOME_DRIVER: "install the NVIDIA driver, or use a machine with a GPU; a container"
    " needs `--gpus all`, or what its runtime calls that",
}
_NAMING: Mapping[RemedyCode, str] = {
    RemedyCode.NAME_GPU: "nvidia-smi --query-gpu=compute_cap --format=csv",
    RemedyCode.NAME_DRIVER: "nvidia-smi --query-gpu=driver_version --format=csv",
    RemedyCode.NAME_TAGS: "python -m pip debug --verbose",
}
_WITH_TORCH = "with the torch that is installed"


def lines(answers: Sequence[FaultAnswer]) -> str:
    """Return the answers, five parts each; a command to copy has a line of its own."""
    return "\n".join("".join(f"{line}\n" for line in _shown(answer)) for answer in answers)


def _shown(answer: FaultAnswer) -> list[str]:
    """Return the lines of an answer, safe to show, with each remedy on its own."""
    *shown, to_do = five(answer)
    remedies = _remedies(answer)
    if not remedies:
        return [*shown, to_do]
    for number, words in enumerate(remedies):
        for place, part in enumerate(filter(None, words)):
            name = ("or" if number else "to do") if not place else ""
            shown.append(f"{name:<11}{clean(part)}")
    return shown


def five(answer: FaultAnswer) -> list[str]:
    """Return the five lines of an answer, safe to show."""
    parts = parts_of(answer)
    return [f"{name:<11}{clean(text)}" for name, text in parts.items()]


def parts_of(answer: FaultAnswer) -> dict[str, str]:
    """Return the five parts of an answer by their names, each a line."""
    return {
        "signature": answer.fault.signature,
        "means": means(answer),
        "releases": _releases(answer),
        "records": _records(answer),
        "to do": _to_do(answer),
    }


def more_words(text: TextFaults) -> str | None:
    """Return how many faults of a text are not answered; None if all are."""
    return f"{plural(text.more, 'more error')} in it, not shown" if text.more else None


def _releases(answer: FaultAnswer) -> str:
    """Return which releases have and need what a fault is about."""
    return _BY_KIND[answer.fault.kind](answer) or _of_notes(answer.notes) or "not known"


def _of_notes(notes: Sequence[Note]) -> str:
    """Return of which pairs notes speak."""
    return "; ".join(dict.fromkeys(map(pairs_of, notes)))


def _of_module(answer: FaultAnswer) -> str | None:
    return None if answer.vllm is None else f"{_who('vLLM', answer.vllm, 'has', 'have')} it"


def _of_extension(answer: FaultAnswer) -> str | None:
    """Return with which torch the extension of each vLLM links, and which vLLM has none."""
    vllm, torch = answer.vllm, answer.torch
    if vllm is None or torch is None:
        return None
    with_torches: dict[tuple[str, ...], list[str]] = {}
    for version in vllm.holds:
        fits = tuple(pair.torch for pair in answer.pairs if pair.vllm == version)
        with_torches.setdefault(fits, []).append(version)
    found = ", ".join(
        f"that of vLLM {spanned(replace(vllm, holds=tuple(versions)))} with torch"
        f" {spanned(replace(torch, holds=fits))}"
        for fits, versions in with_torches.items()
        if fits
    )
    name = answer.operands.get("links", answer.fault.subject)
    parts = [f"on Python {answer.operands['python']}, {name} links: {found}"] if found else []
    if none := tuple(version for version in vllm.asked if version not in vllm.holds):
        parts.append(f"no {name} is in vLLM {spanned(replace(vllm, holds=none))}")
    return "; ".join(parts) or None


def _of_old_library(answer: FaultAnswer) -> str | None:
    if answer.vllm is None:
        return None
    what = "it" if answer.meaning is Meaning.CUDA else "that version or a newer one"
    parts = [f"{_who('vLLM', answer.vllm, 'needs', 'need')} {what}"]
    if answer.torch is not None:
        parts.append(f"{_who('torch', answer.torch, 'needs', 'need')} it")
    if glibc := answer.operands.get("glibc"):
        pair = f"vLLM {answer.operands['vllm']} with torch {answer.operands['torch']}"
        parts.append(f"{pair} needs glibc {glibc}")
    return "; ".join(parts)


def _of_old_driver(answer: FaultAnswer) -> str | None:
    if answer.torch is None or answer.vllm is None:
        return None
    if answer.operands.get("minor") == "":
        return None
    if answer.meaning is Meaning.NEWER_PTX:
        return f"{_both_built(answer.torch, answer.vllm)} for a CUDA of that driver or an older one"
    return f"{_both_built(answer.torch, answer.vllm)} for that CUDA or newer"


def _of_gpu(answer: FaultAnswer) -> str:
    if answer.code:
        return _of_code(answer.code)
    if answer.torch is None or answer.vllm is None:
        return "that depends on the GPU"
    return f"{_both_built(answer.torch, answer.vllm)} with a CUDA that knows it"


def _of_code(code: Sequence[ProcessorCode]) -> str:
    """Return which wheels have code for a GPU, by processor, and which nobody read."""
    some = [found for found in code if found.torch.holds or found.vllm.holds]
    parts = [
        f"for {found.machine} {_subject('torch', found.torch)} and"
        f" {_subject('vLLM', found.vllm)} have code for it"
        for found in some
    ]
    if none := [found for found in code if found not in some]:
        machines = " and ".join(found.machine for found in none)
        parts.append(f"no wheel for {machines} that was read has code for it")
    unread = {found.machine: _unread(found) for found in code}
    if len(set(unread.values())) == 1:
        unread = {"": next(iter(unread.values()))}
    parts += [
        f"{f'for {machine} ' if machine else ''}{names} were not read"
        for machine, names in unread.items()
        if names
    ]
    return "; ".join(parts)


def _unread(code: ProcessorCode) -> str:
    both = (("torch", code.unread_torch), ("vLLM", code.unread_vllm))
    return listed([f"{name} {spanned(known)}" for name, known in both if known.holds])


def _both_built(torch: KnownReleases, vllm: KnownReleases) -> str:
    return f"{_subject('torch', torch)} and {_subject('vLLM', vllm)} are built"


def _of_conflict(answer: FaultAnswer) -> str:
    name, wanted = answer.operands.get("name"), answer.operands.get("range") or ""
    if answer.meaning is Meaning.OTHER_PYTHON:
        if answer.vllm is None:
            return "not known"
        return f"{_who('vLLM', answer.vllm, 'accepts', 'accept')} Python {answer.fault.has}"
    if answer.meaning is Meaning.OTHER_TAGS:
        return _of_tags(answer.operands)
    if not name or answer.vllm is None:
        return "which releases exclude each other is not in the text"
    if name == "vllm":
        found = spanned(answer.vllm)
        return f"vLLM {found} is published" if found else "no such vLLM is known here"
    return f"{_who('vLLM', answer.vllm, 'pins', 'pin')} {name}{wanted.partition('+')[0]}"


def _of_tags(operands: Mapping[str, str]) -> str:
    parts = []
    if release := operands.get("release"):
        parts.append(f"PyPI has wheels of {release} for {operands['wheels']}")
    if only := operands.get("only"):
        parts.append(f"every wheel of vLLM on PyPI that is known here is for {only}")
    return "; ".join(parts) or "not known"


def _of_vision(answer: FaultAnswer) -> str | None:
    torch = answer.torch
    if torch is None or not torch.holds:
        return None
    first, *newest = [
        f"torchvision {answer.operands[f'torchvision {version}']} with torch {version}"
        for version in (torch.holds[0], *torch.asked[-3:])
        if f"torchvision {version}" in answer.operands
    ]
    pairs = listed(list(dict.fromkeys((first, *newest))))
    named = answer.operands.get("unknown torch")
    if named is None:
        return f"they go together as {pairs}"
    why = (
        f"the torch of the text, {named}, is not known here" if named else "the text names no torch"
    )
    return f"{why}; for example, {pairs} go together"


def _of_recompiling(answer: FaultAnswer) -> str:
    if answer.meaning is Meaning.LOADED_ALL:
        return "none has to change"
    if pair := answer.operands.get("clean"):
        cases = plural(int(answer.operands["clean cases"]), "case")
        where = f"on {answer.operands['clean platform']}, {cases}"
        return f"the newest pair with a complete run that loads everything: {pair} ({where})"
    return "no complete run among these records loads everything"


def _of_wheel(answer: FaultAnswer) -> str | None:
    if answer.torch is None:
        return None
    lacks = ""
    if lacking := answer.operands.get("lacking"):
        lacks = f"; torch {lacking} lacks {clip(answer.operands['symbol'], NAME_LIMIT)}"
    return f"{_who('torch', answer.torch, 'has', 'have')} all that it needs{lacks}"


def _of_both(answer: FaultAnswer) -> str | None:
    torch, vllm = answer.torch, answer.vllm
    if torch is None or vllm is None:
        return None
    is_symbol = answer.fault.kind is FaultKind.UNDEFINED_SYMBOL
    verbs = ("exports", "export") if is_symbol else ("brings", "bring")
    parts = [f"{_who('torch', torch, *verbs)} it", f"{_who('vLLM', vllm, 'needs', 'need')} it"]
    if answer.files and is_symbol:
        named = ", ".join(answer.files[:_FILES])
        parts[-1] += f" ({named}{', ...' if len(answer.files) > _FILES else ''})"
    parts += [f"{name} needs it" for name in answer.third]
    if answer.pairs and not (torch.holds == torch.asked and vllm.holds == vllm.asked):
        parts.append(f"pairs with both: {_pairs(answer, vllm)}")
    return "; ".join(parts)


def _pairs(answer: FaultAnswer, vllm: KnownReleases) -> str:
    by_torch: dict[str, list[str]] = {}
    for pair in answer.pairs:
        by_torch.setdefault(pair.torch, []).append(pair.vllm)
    return ", ".join(
        f"vLLM {spanned(KnownReleases(holds=tuple(found), asked=vllm.asked))} with torch {torch}"
        for torch, found in by_torch.items()
    )


def _of_flashinfer(answer: FaultAnswer) -> str | None:
    vllm = answer.vllm
    if vllm is None:
        return None
    wants = f"flashinfer-python=={answer.operands['wants']}"
    text = f"{_who('vLLM', vllm, 'pins', 'pin')} {wants}"
    if other := answer.operands.get("vllm of the other"):
        first, last = other.split(" ")
        names = f"vLLM {first} pins" if first == last else f"vLLM {first} to {last} pin"
        text += f", {names} {answer.operands['has']}"
    return text


_BY_KIND: Mapping[FaultKind, Callable[[FaultAnswer], str | None]] = {
    FaultKind.UNDEFINED_SYMBOL: _of_both,
    FaultKind.MISSING_LIBRARY: _of_both,
    FaultKind.MISSING_MODULE: _of_module,
    FaultKind.MISSING_EXTENSION: _of_extension,
    FaultKind.OLD_LIBRARY: _of_old_library,
    FaultKind.OLD_DRIVER: _of_old_driver,
    FaultKind.NO_KERNEL: _of_gpu,
    FaultKind.CONFLICT: _of_conflict,
    FaultKind.TORCHVISION: _of_vision,
    FaultKind.FLASHINFER: _of_flashinfer,
    FaultKind.RECOMPILES: _of_recompiling,
    FaultKind.WHEEL: _of_wheel,
    FaultKind.OTHER_PACKAGE: releases,
    FaultKind.UNKNOWN_MODEL: releases,
    FaultKind.DATA_TYPE: releases,
    FaultKind.GPU_STATE: releases,
    FaultKind.TOOL: releases,
    FaultKind.MEMORY: releases,
    FaultKind.NCCL: releases,
    FaultKind.REPORT: releases,
    FaultKind.UNKNOWN: lambda _: None,
}


def _who(project: str, known: KnownReleases, one: str, many: str) -> str:
    """Return which releases of a project do something: `torch 2.10.0 alone exports`."""
    if len(known.holds) == 1:
        return f"{project} {known.holds[0]} alone {one}"
    plural_of = known.holds and known.holds != known.asked
    return f"{_subject(project, known)} {many if plural_of else one}"


def _subject(project: str, known: KnownReleases) -> str:
    if not known.asked:
        return f"no known {project}"
    if not known.holds:
        return f"no {project} from {known.asked[0]} to {known.asked[-1]}"
    if known.holds == known.asked:
        return f"every {project} from {known.asked[0]} to {known.asked[-1]}"
    return f"{project} {spanned(known)}"


def _records(answer: FaultAnswer) -> str:
    """Return which records show a fault, and its cause."""
    issues = f"; see {' and '.join(answer.links)}" if answer.links else ""
    if answer.records is None or not answer.looked:
        return f"none was looked through{issues}"
    if not answer.records:
        return f"none of {plural(answer.looked, 'record')} shows it{issues}"
    cells = {(shown.cell, shown.platform): shown for shown in reversed(answer.records)}
    newest = list(reversed(cells.values()))
    named: list[str] = []
    known: set[str] = set()
    for shown in newest[:_RECORDS]:
        cases = f", {plural(len(shown.cases), 'case')}" if shown.cases else ""
        whose = whose_change(shown)
        shorter = "the same attribution" if whose in known else whose
        known.add(whose)
        facts = f"{shown.cell} on {shown.platform}{cases}{f', {shorter}' if whose else ''}"
        named.append(f"{shown.path} ({facts})")
    more = len(newest) - len(named)
    rest = f" and {plural(more, 'more cell')}" if more > 0 else ""
    return f"{', '.join(named)}{rest} of {plural(answer.looked, 'record')}{issues}"


def whose_change(shown: ShownBy) -> str:
    """Return whose change a record's failure is attributed to; "" without an attribution."""
    if shown.attribution is None:
        return ""
    # Its words take as long to import as all else of an answer.
    from matrix.report.attribution.sentences import sentence

    return sentence(shown.attribution)


def _to_do(answer: FaultAnswer) -> str:
    if _is_fine(answer):
        return "nothing has to change"
    words = [" ".join(filter(None, remedy)) for remedy in _remedies(answer)]
    if not words and answer.meaning is Meaning.NOTED:
        return "see what it means"
    return "; or ".join(words) if words else "no fix is known"


def _is_fine(answer: FaultAnswer) -> bool:
    torch = answer.torch
    if answer.meaning is Meaning.LATER_MINOR:
        return True
    return answer.fault.kind is FaultKind.WHEEL and torch is not None and torch.holds == torch.asked


def _remedies(answer: FaultAnswer) -> list[tuple[str, str]]:
    """Return each remedy once: its command and what is to know of it, each "" where it has none."""
    if _is_fine(answer):
        return []
    return list(dict.fromkeys(_remedy(remedy, answer) for remedy in answer.remedies))


def _remedy(remedy: FaultRemedy, answer: FaultAnswer) -> tuple[str, str]:
    found = command(remedy)
    if found is None:
        return "", _without_command(remedy, answer)
    match remedy.code:
        case RemedyCode.NAME_GPU:
            return found, "names the GPU: explain its sm_ number"
        case RemedyCode.NAME_TAGS:
            return found, "names the tags that this Python and its pip accept"
        case RemedyCode.NAME_DRIVER:
            return found, "names the driver: give it to matrix recommend --driver"
        case RemedyCode.REBUILD if answer.fault.kind is not FaultKind.WHEEL:
            return found, "builds it for the torch that is installed"
    return found, NOTES.get(remedy.code, "")


def _without_command(remedy: FaultRemedy, answer: FaultAnswer) -> str:
    what = remedy.what
    match remedy.code:
        case RemedyCode.NEWER_DRIVER:
            return f"install driver {what} or newer" if what else "install a newer NVIDIA driver"
        case RemedyCode.NEWER_GPU:
            return f"take a GPU of compute capability {what} or newer"
        case RemedyCode.NEWER_SYSTEM:
            return f"take a system, or a container, that has {what}"
        case RemedyCode.LOADED_FIRST:
            library = what or "that library"
            two = ""
            if library.startswith("libnccl"):
                # Both write nvidia/nccl/lib: https://github.com/pytorch/pytorch/issues/186591
                two = (
                    "; where `uv pip list` has nvidia-nccl-cu12 and nvidia-nccl-cu13, uninstall"
                    " both, and install the one that torch requires"
                )
            return (
                f"unset LD_LIBRARY_PATH, or remove the other {library} from it; `uv pip check`"
                f" shows whether an installed one is another than torch requires{two}"
            )
        case RemedyCode.REQUIREMENT:
            return f"fulfil what the text names: {what}"
        case RemedyCode.OTHER_PTXAS:
            return f"set TRITON_PTXAS_PATH to the ptxas of a CUDA {what} or newer"
        case RemedyCode.REBUILD:
            return f"build {_package(answer)} again from its sources, {_WITH_TORCH}"
    return _PLAIN.get(remedy.code) or remedy_words(remedy, answer.fault.wants)


def _package(answer: FaultAnswer) -> str:
    """Return the package to build again, by its folder or a file, in quotes: anybody names them."""
    fault = answer.fault
    if fault.package:
        return repr(fault.package)
    file = fault.subject if fault.kind is FaultKind.WHEEL else fault.file
    return f"the package of {clip(clean(file or ''), NAME_LIMIT)!r}"


def command(remedy: FaultRemedy) -> str | None:
    """Return the command of a remedy; None if it is none."""
    named = " ".join(shlex.quote(requirement) for requirement in remedy.requirements)
    match remedy.code:
        case RemedyCode.INSTALL if remedy.environment and remedy.python:
            return command_line(
                Install(
                    environment=remedy.environment,
                    python=remedy.python,
                    requirements=remedy.requirements,
                )
            )
        case RemedyCode.INSTALL:
            return pip_install(remedy.requirements)
        case RemedyCode.UPGRADE:
            return pip_install(remedy.requirements, f"--upgrade-package {remedy.what}")
        case RemedyCode.REMOVE:
            return pip_uninstall(remedy.requirements)
        case RemedyCode.REBUILD if remedy.requirements:
            apart = f"--no-build-isolation --no-binary {named} --reinstall-package {named}"
            return pip_install(remedy.requirements, apart)
        case RemedyCode.SHOW:
            return f"matrix show {shlex.quote(remedy.what or '')}"
    return _NAMING.get(remedy.code) or COMMANDS.get(remedy.code)
