"""`matrix recommend` and `upgrade`: which pair to take, and what changes from one to another."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from matrix._util.console import print_status
from matrix._util.gc import gc_paused
from matrix.advice.kinds import EvidenceKind
from matrix.catalog.platform_tags import MACHINES
from matrix.commands import arguments, context
from matrix.commands.output import show
from matrix.errors import MatrixError

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from matrix.advice.recommend import AdviceFacts
    from matrix.advice.wish import Wish

_NO_GPU = ("none", "no", "cpu")
"""The words for a machine without a GPU."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands `matrix recommend` and `upgrade`."""
    _add_recommend(commands)
    _add_upgrade(commands)


def _add_recommend(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    recommend = commands.add_parser(
        "recommend",
        help="name the newest pair that fits a machine, its evidence, and why no newer one does",
        epilog="Unknown facts exclude no pair; the output names them. Exit status: 0; 1 if no"
        " pair fits; 2 if an option or a record is invalid.",
        allow_abbrev=False,
    )
    arguments.add_folders(recommend)
    machine = recommend.add_argument_group("the machine")
    machine.add_argument("--driver", metavar="VERSION", help="NVIDIA's driver: 570, or 570.124.06")
    machine.add_argument(
        "--gpu", metavar="GPU", help="the GPU: h100, 'RTX 5090', sm_121, 12.1, or none"
    )
    machine.add_argument("--python", metavar="VERSION", type=arguments.python, help="as 3.12")
    machine.add_argument(
        "--machine",
        choices=MACHINES,
        help=f"the processor (default: that with which the GPU comes, else {MACHINES[0]})",
    )
    machine.add_argument("--glibc", metavar="VERSION", help="glibc, as 2.31 (ldd --version)")
    pair = recommend.add_argument_group("the pair")
    arguments.add_releases(pair, ("torch", "vllm"))
    pair.add_argument(
        "--cuda", metavar="SPEC", help="CUDA of vLLM's wheel: 12.9, 12 (any of it) or '<13'"
    )
    pair.add_argument("--model", metavar="MODEL", help="a model of the startup tests, as glm_4.5")
    pair.add_argument(
        "--evidence",
        choices=tuple(map(str, EvidenceKind)),
        default=str(EvidenceKind.STATIC),
        help="the least evidence: measured on this kind of GPU, alike (on its compute"
        " capability), elsewhere, predicted by the CPU, or static, by checks alone (default:"
        " static)",
    )
    recommend.add_argument("--json", action="store_true", help="print JSON")
    arguments.finish(recommend, _recommend)


def _add_upgrade(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    upgrade = commands.add_parser(
        "upgrade",
        help="show what changes from one vLLM release to another, and what an upgrade in place"
        " leaves behind",
        epilog="Each release has the torch that it pins. Exit status: 0; 2 if an option or a"
        " record is invalid.",
        allow_abbrev=False,
    )
    arguments.add_folders(upgrade)
    for name, what in (("from", "the installed"), ("to", "the new")):
        upgrade.add_argument(
            f"--{name}",
            metavar="VERSION",
            required=True,
            dest=f"{name}_",
            help=f"{what} release of vLLM: 0.19.1, or 0.19 (its newest patch)",
        )
    upgrade.add_argument(
        "--python",
        metavar="VERSION",
        type=arguments.python,
        default="3.12",
        help="the Python, on which packages depend (default: 3.12)",
    )
    upgrade.add_argument("--json", action="store_true", help="print JSON")
    arguments.finish(upgrade, _upgrade)


@gc_paused()
def _recommend(options: argparse.Namespace) -> int:
    from matrix.advice.recommend import recommend
    from matrix.report.advice.recommend import content, lines

    context.refuse_candidates(options, "`matrix qualify {}` shows whether it works")
    known, status, faults = _known(options)
    found = recommend(_wish(options, known), known)
    for fault in faults:
        print_status(fault)
    text = content(found) if options.json else lines(found)
    show(text, fit=not options.json)
    return status or int(found.choice is None)


@gc_paused()
def _upgrade(options: argparse.Namespace) -> int:
    from matrix.advice.upgrade import upgrade
    from matrix.catalog.requirements import known_requirements
    from matrix.report.advice.upgrade import content, lines
    from matrix.rules.notes import load_notes

    known, status, _ = _known(options)
    _python_must_be_known(options.python, known)
    old, new = (
        _release(text, option, known)
        for text, option in ((options.from_, "--from"), (options.to_, "--to"))
    )
    if old == new:
        raise MatrixError(f"--to {options.to_!r}: is the release of --from; name another one")
    found = upgrade(
        old,
        new,
        known,
        python=options.python,
        requirements=known_requirements(),
        notes=load_notes(),
    )
    text = content(found) if options.json else lines(found)
    show(text, fit=not options.json)
    return status


def _known(options: argparse.Namespace) -> tuple[AdviceFacts, int, list[str]]:
    """Return all that an advice is made of, and the exit status of reading the records.

    The list gets a line for each symbol table that turns out to be damaged.
    """
    from matrix.advice.evidence import PairRuns
    from matrix.advice.recommend import AdviceFacts, declarations
    from matrix.advice.tables_file import load_tables
    from matrix.catalog.releases_file import load_releases
    from matrix.checks.lookup import load_answers
    from matrix.report.results import late_lines
    from matrix.rules.expectations_file import load_expectations
    from matrix.store.load import newest_records

    releases, late = load_releases(), context.late_now()
    folders = arguments.given_or_default(options.folders)
    found = newest_records(folders, late, print_status)
    for line in (*map(str, found.errors), *late_lines(found.late)):
        print_status(line)
    context.say_if_none(folders, found)
    answers = load_answers(releases)
    known = AdviceFacts(
        releases=releases,
        declared=declarations(releases),
        tables=load_tables(),
        answers=answers,
        runs=PairRuns(
            found.records,
            lambda: load_expectations(options.expectations),
            late,
        ),
    )
    return known, 2 if found.errors else 0, answers.faults


def _wish(options: argparse.Namespace, known: AdviceFacts) -> Wish:
    """Return what the options ask for. Raises MatrixError, which names the option and the fix."""
    from matrix.advice.wish import Wish
    from matrix.catalog.hardware import driver_of

    _python_must_be_known(options.python, known)
    asked = context.specifiers(options, ("torch", "vllm"), known.releases)
    for key, rows in (("torch", known.releases.torch), ("vllm", known.releases.vllm)):
        wanted = asked.get(key)
        if wanted is not None and not any(
            wanted.contains(row.version, prereleases=True) for row in rows
        ):
            raise context.unknown_release(f"--{key} {getattr(options, key)}", known.releases)
    without_gpu = options.gpu is not None and options.gpu.strip().lower() in _NO_GPU
    hardware = known.tables.hardware
    gpu = None if without_gpu else arguments.read_of(options, "gpu", hardware.gpu)
    assumed = None if gpu is None or options.machine else hardware.processor_of(gpu)
    return Wish(
        driver=arguments.read_of(options, "driver", driver_of),
        gpu=gpu,
        without_gpu=without_gpu,
        python=options.python,
        cuda=arguments.read_of(options, "cuda", _cuda),
        machine=options.machine or assumed or MACHINES[0],
        is_machine_assumed=assumed is not None,
        glibc=arguments.read_of(options, "glibc", _glibc),
        model=arguments.read_of(options, "model", lambda text: _model(text, known)),
        torch=asked.get("torch"),
        vllm=asked.get("vllm"),
        evidence=EvidenceKind(options.evidence),
    )


def _python_must_be_known(python: str | None, known: AdviceFacts) -> None:
    """Raise MatrixError for a Python that no release is known for."""
    if python is not None and python not in known.releases.pythons:
        raise context.unknown_release(f"--python {python}", known.releases, python=True)


def _cuda(text: str) -> SpecifierSet:
    from packaging.specifiers import InvalidSpecifier

    from matrix._util.versions import specifier_set

    if re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,2})?", text, re.ASCII):
        text = f"=={text}" if "." in text else f"=={text}.*"
    try:
        found = specifier_set(text)
    except InvalidSpecifier:
        found = None
    if not found:
        raise MatrixError(f"{text!r}: is not a CUDA; write it as 12.9, 12 or '<13'")
    return found


def _glibc(text: str) -> str:
    if not re.fullmatch(r"2\.[0-9]{1,3}", text, re.ASCII):
        raise MatrixError(f"{text!r}: is not a version of glibc; write it as 2.31 (ldd --version)")
    return text


def _model(text: str, known: AdviceFacts) -> str:
    """Return the case of the startup tests that a person means by the name of a model."""
    from matrix._util.nearest import suggested

    cases = known.runs.cases
    plain = re.sub(r"[-_\s]+", "_", text.strip().lower())
    for case in cases:
        if text == case or plain == case.partition("[")[2].rstrip("]"):
            return case
    models = [case[len("model_startup[") : -1] for case in cases if case.startswith("model_")]
    if not cases:
        raise MatrixError(f"{text!r}: no record has a model; name another folder of records")
    message = f"{text!r}: no record has it; the models are {', '.join(models)}"
    raise MatrixError(suggested(message, plain, models))


def _release(text: str, option: str, known: AdviceFacts) -> str:
    """Return the known release of vLLM that a person means. Raises MatrixError."""
    from packaging.version import InvalidVersion

    from matrix._util.versions import newest_patch, parse_version
    from matrix.catalog.releases import nearest_known

    versions = [row.version for row in known.releases.vllm]
    try:
        wanted = parse_version(newest_patch(text, versions))
    except InvalidVersion:
        raise MatrixError(f"{option} {text!r}: is not a release; write it as 0.26.0") from None
    found = next((version for version in versions if parse_version(version) == wanted), None)
    if found is None:
        near = nearest_known(str(wanted), versions)
        raise MatrixError(f"{option} {text!r}: vLLM {wanted} is not {near}")
    return found
