"""The recommendation of a pair: as text for people, as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from matrix._util.text import aligned, clean, listed
from matrix._util.versions import parse_version, specifier_text
from matrix.advice.evidence import Evidence, MeasuredRun
from matrix.advice.fits import WheelNeeds
from matrix.advice.kinds import EvidenceKind, is_enough
from matrix.advice.reasons import OF_MACHINE, MisfitCode
from matrix.advice.recommend import Choice, Elsewhere, Excluded, Recommendation
from matrix.advice.wish import Wish
from matrix.report.advice import words
from matrix.report.coded import coded, operand
from matrix.report.prediction import EXPLAINED
from matrix.report.uv_commands import new_environment


def lines(found: Recommendation) -> str:
    """Return the recommendation as text, or why no pair fits."""
    if found.choice is None:
        text = _nothing(found)
    else:
        text = [*_choice(found.choice, found), *_why_not(found)]
    return "\n".join([*text, *_elsewhere(found.elsewhere)]) + "\n"


def _nothing(found: Recommendation) -> list[str]:
    """Return why no pair fits: first the cause that excludes most releases, then the others."""
    if not found.newer:
        return ["no pair fits: no known vLLM is in that range; `matrix refresh` reads new ones"]
    grouped = words.groups(found.newer)
    reasons = [excluded.reason for _, excluded in grouped]
    if len(grouped) > 1 and all(reason.code is MisfitCode.OLD_DRIVER for reason in reasons):
        least = min((str(reason.wanted) for reason in reasons), key=parse_version)
        names = words.releases(found.newer, least)
        first = (
            f"driver {reasons[0].given} is older than every wheel needs; the least is {least}, of"
            f" vLLM {names}"
        )
    else:
        cause = words.largest(found.newer).reason.cause
        name, excluded = next(group for group in grouped if group[1].reason.cause == cause)
        first = f"vLLM {name}: {words.why(excluded.reason)}"
        if excluded.reason.code in OF_MACHINE:
            first = words.why(excluded.reason)
        grouped.remove((name, excluded))
    more = words.WITHOUT_GPU if found.wish.without_gpu else ()
    return [f"no pair fits: {first}", *_reasons(grouped), *more]


def _reasons(grouped: Iterable[tuple[str, Excluded]]) -> list[str]:
    return [f"  vLLM {names}: {words.why(excluded.reason)}" for names, excluded in grouped]


def _choice(choice: Choice, found: Recommendation) -> list[str]:
    vllm, torch = choice.pair.vllm, choice.pair.torch
    off = f", off-pin: this vLLM pins torch {vllm.torch}" if choice.pair.off_pin else ""
    evidence = words.evidence_words(choice.evidence, choice.python, found.wish)
    rows = [["evidence", evidence], ["warm start", _warm(choice, found.wish)]]
    rows += [["not known", why] for why in _not_known(choice, found)]
    if gpu := _gpu(choice, found):
        rows.append(["GPU", gpu])
    if choice.failed_without:
        rows.append(["known to fail", words.failed_without_words(choice.failed_without)])
    rows += [
        [f"{words.NAMES[needs.project]} {needs.version}", words.wheel_words(needs)]
        for needs in choice.needs
    ]
    if found.measured is not None:
        other = found.measured
        text = f"vLLM {other.pair.vllm.version} with torch {other.pair.torch.version}"
        least = other.evidence.kind
        rows.append(["measured", f"{text} is the newest that ran on a GPU (--evidence {least})"])
    pair = f"vLLM {vllm.version} with torch {torch.version} on Python {choice.python}"
    return [
        f"{pair}{off}{_assumed(found.wish)}{_unread_code(choice, found.wish)}",
        "",
        *aligned(rows),
        "",
        *(f"    {line}" for line in new_environment(choice.install)),
        *words.addition_words(choice.install),
    ]


def _gpu(choice: Choice, found: Recommendation) -> str:
    """Return which drivers know the GPU, where the wheels do not say it; "" if they do."""
    if not found.is_gpu_known:
        return "of a compute capability that no GPU and no CUDA has that is known here"
    if found.wish.driver is not None:
        return ""
    drivers = [needs.driver.least for needs in choice.needs if needs.driver is not None]
    least = max(drivers, key=parse_version, default=None)
    return words.branches_words(found.branches.beyond(least))


def _assumed(wish: Wish) -> str:
    """Return for which processor the wheels are, where nobody named it."""
    if not wish.is_machine_assumed or wish.gpu is None:
        return ""
    return f", wheels for {wish.machine}, with which a {wish.gpu.name} comes (--machine)"


def _unread_code(choice: Choice, wish: Wish) -> str:
    """Return that nobody knows whether the wheels have code for the GPU; "" if it is known."""
    names = [words.NAMES[needs.project] for needs in choice.needs if needs.code is None]
    if wish.gpu is None or not names:
        return ""
    have = "has" if len(names) == 1 else "have"
    return f"; whether the wheel of {' and of '.join(names)} {have} code for this GPU: not read"


def _not_known(choice: Choice, found: Recommendation) -> Iterator[str]:
    """Yield what nobody knows of the model that was asked for, on this GPU."""
    model = words.case_words(found.wish.model or "")
    if missing := _not_known_without(choice, found.wish):
        yield f"whether {model} starts on this GPU without {listed(missing)}"
    need = None if _ran_alike(choice) else found.refused
    if need is not None:
        below = f"below compute capability {need.least}"
        which = f"vLLM {specifier_text(need.versions)} refuses it {below}"
        yield f"whether {model} starts on this GPU: {which}"


def _not_known_without(choice: Choice, wish: Wish) -> list[str]:
    """Return the parts of vLLM without code for the GPU, where no run on it speaks of the model."""
    if wish.model is None or _ran_alike(choice):
        return []
    return [name for needs in choice.needs if needs.code for name in needs.code.without]


def _ran_alike(choice: Choice) -> bool:
    """Tell whether the pair ran on such a GPU, so that its run shows what the model does there."""
    return is_enough(choice.evidence.kind, EvidenceKind.ALIKE)


def _warm(choice: Choice, wish: Wish) -> str:
    """Return how the pair starts warm: the model that was asked for, else all cases.

    The seconds of another GPU than the one that was asked for name theirs.
    """
    model = wish.model
    measured, predicted = choice.evidence.measured, choice.evidence.predicted
    if measured is not None:
        case = None if model is None else measured.of_case(model)
        if model is None:
            return words.warm_words(measured.cases)
        if case is None:
            return f"{words.case_words(model)}: {words.UNKNOWN}"
        is_other = choice.evidence.kind is not EvidenceKind.MEASURED
        on = f" (on {clean(measured.gpu or 'another GPU')})" if is_other else ""
        return f"{words.case_words(model)}{on}: {words.start_words(case)}"
    if predicted is not None:
        return words.predicted_warm(predicted, model)
    return words.UNKNOWN


def _why_not(found: Recommendation) -> list[str]:
    grouped = words.groups(found.newer)
    if not grouped:
        return []
    return ["", "why not newer:", *_reasons(grouped)]


def _elsewhere(found: tuple[Elsewhere, ...]) -> list[str]:
    """Return the newest release for each CUDA: nobody read its wheels."""
    newest: dict[str, Elsewhere] = {}
    for wheels in found:
        newest.setdefault(wheels.cuda, wheels)
    return [
        f"not read: {wheels.index} should have vLLM {wheels.version} for CUDA {wheels.cuda}"
        f" (driver {wheels.driver or words.UNKNOWN} or newer); nobody has read it"
        for wheels in newest.values()
    ]


def content(found: Recommendation) -> str:
    """Return the recommendation as JSON; null is what was not asked for, or is not known."""
    wish = found.wish
    asked = {
        "driver": None if wish.driver is None else wish.driver.text,
        "gpu": None if wish.gpu is None else wish.gpu.name,
        "capability": None if wish.gpu is None else str(wish.gpu.capability),
        "python": wish.python,
        "cuda": None if wish.cuda is None else str(wish.cuda),
        "machine": wish.machine,
        "machine_assumed": wish.is_machine_assumed,
        "without_gpu": wish.without_gpu,
        "glibc": wish.glibc,
        "model": wish.model,
        "torch": None if wish.torch is None else str(wish.torch),
        "vllm": None if wish.vllm is None else str(wish.vllm),
        "evidence": wish.evidence,
    }
    values = {
        "schema": 1,
        "asked": asked,
        "choice": _choice_values(found.choice, wish),
        "measured": _choice_values(found.measured, wish),
        "not_newer": [
            {
                "vllm": excluded.pair.vllm.version,
                "torch": excluded.pair.torch.version,
                **coded(excluded.reason),
                "text": words.why(excluded.reason),
            }
            for excluded in found.newer
        ],
        "driver_branches": found.branches._asdict() if any(found.branches) else None,
        "refused": None
        if found.refused is None
        else {
            "case": found.refused.case,
            "least_capability": str(found.refused.least),
            "vllm": specifier_text(found.refused.versions),
        },
        "not_read": [operand(wheels) for wheels in found.elsewhere],
    }
    return json.dumps(values, indent=1) + "\n"


def _choice_values(choice: Choice | None, wish: Wish) -> dict[str, object] | None:
    if choice is None:
        return None
    return {
        "vllm": choice.pair.vllm.version,
        "torch": choice.pair.torch.version,
        "python": choice.python,
        "off_pin": choice.pair.off_pin,
        "evidence": {
            **_evidence_values(choice.evidence),
            "text": words.evidence_words(choice.evidence, choice.python, wish),
        },
        "failed_without": operand(choice.failed_without),
        "not_known_without": _not_known_without(choice, wish),
        "wheels": [wheel_values(needs) for needs in choice.needs],
        "install": operand(choice.install),
        "commands": new_environment(choice.install),
    }


def _evidence_values(evidence: Evidence) -> dict[str, object]:
    predicted = evidence.predicted
    return {
        "kind": evidence.kind,
        "measured": measured_values(evidence.measured),
        "predicted": None
        if predicted is None
        else {
            "cell": predicted.cpu,
            "record": predicted.record,
            "verdict": predicted.verdict,
            "recompiles": list(predicted.recompiling),
            "partial": operand(predicted.part),
            "stock": not predicted.not_stock,
            "means": EXPLAINED,
        },
        "passed": list(evidence.passed),
        "unknown": list(evidence.unknown),
        "without": list(evidence.without),
        "on_cpu": operand(evidence.on_cpu),
    }


def measured_values(measured: MeasuredRun | None) -> dict[str, object] | None:
    """Return what a run shows as JSON values; None if there is none."""
    if measured is None:
        return None
    return {
        "cell": measured.cell,
        "python": measured.python,
        "record": measured.record,
        "day": measured.day,
        "gpu": measured.gpu,
        "driver": measured.driver,
        "verdict": measured.verdict,
        "stock": measured.is_stock,
        "partial": operand(measured.part),
        "cases": [
            {
                "case": case.case,
                "verdict": case.verdict,
                "cold": case.cold,
                "warm": case.warm,
                "recompiles": None
                if case.recompiles is None
                else {
                    "counters": dict(case.recompiles.counters),
                    "issues": list(case.recompiles.issues),
                },
            }
            for case in measured.cases
        ],
    }


def wheel_values(needs: WheelNeeds) -> dict[str, object]:
    """Return what a wheel needs as JSON values."""
    code = needs.code
    return {
        "project": needs.project,
        "version": needs.version,
        "cuda": needs.cuda,
        "driver": None if needs.driver is None else needs.driver.least,
        "driver_for_ptx": None if needs.driver is None else needs.driver.own,
        "glibc_of_wheel": needs.wheel_glibc,
        "read": needs.is_read,
        "glibc": needs.glibc,
        "gpu_code": list(needs.archs) if needs.is_read else None,
        "fits_gpu": None if code is None else code.fit,
        "without": None if code is None else list(code.without),
    }
