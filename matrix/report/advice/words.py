"""The sentences of advice: why a pair does not fit, on what evidence one does, how it starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from matrix._util.text import clean, clip, listed, plural, seconds, spans
from matrix._util.versions import parse_version
from matrix.advice.evidence import CaseStarts, CpuRun, Evidence, MeasuredRun
from matrix.advice.fits import WheelNeeds
from matrix.advice.install import Install
from matrix.advice.kinds import EvidenceKind
from matrix.advice.lacking import FailedWithout
from matrix.advice.reasons import MisfitCode, Reason
from matrix.advice.recommend import Excluded
from matrix.advice.wish import Wish
from matrix.catalog.hardware import DriverBranches
from matrix.checks.gpu_code.fits import CodeFit
from matrix.record.model import Rung
from matrix.report import marks, prediction, stock
from matrix.report.reasons import NO_ISSUE, reason_words
from matrix.verdict.prediction import Prediction
from matrix.verdict.recompiles import Recompiles
from matrix.verdict.states import Verdict

NOT_READ = "not read"
"""The words for a wheel whose files nobody read."""

UNKNOWN = "not known"
"""The words for what no release or table says."""

NAMES: Mapping[str, str] = {"vllm": "vLLM", "torch": "torch"}
_LONGEST = 200
_CASE = 60
_FORMS: Mapping[MisfitCode, str] = {
    MisfitCode.WITHOUT_GPU: "these wheels of vLLM are for CUDA, and need a GPU",
    MisfitCode.OTHER_PROCESSOR: "a {archs} comes with {wanted}, and --machine {given} was"
    " asked for",
    MisfitCode.DRIVER_BEFORE_GPU: "driver {given} does not know a GPU of compute capability"
    " {archs}; the first branch that does is R{wanted}",
    MisfitCode.DRIVER_AFTER_GPU: "driver {given} no longer supports a GPU of compute capability"
    " {archs}; the last branch that does is R{wanted}",
    MisfitCode.YANKED: "{its} was withdrawn: {wanted}",
    MisfitCode.PINS_TORCH: "pins torch {wanted}",
    MisfitCode.OTHER_CUDA: "its wheel is for CUDA {cuda}, not {given}",
    MisfitCode.OLD_DRIVER: "{its}, for CUDA {cuda}, needs driver {wanted} or newer, not {given}",
    MisfitCode.OLD_DRIVER_FOR_PTX: "{its} has only PTX for this GPU, which takes driver {wanted} or"
    " newer to compile, not {given}",
    MisfitCode.NO_GPU_CODE: "{its} has no code for {given}, only for {archs}",
    MisfitCode.NO_WHEEL: "{its} is not for {given}",
    MisfitCode.GLIBC_OF_WHEEL: "{its} is for glibc {wanted} or newer, not {given}",
    MisfitCode.GLIBC_OF_LIBRARY: "libraries in {its} need glibc {wanted}, not {given}",
    MisfitCode.NOT_LINKED: "nobody knows whether it links with torch {version}",
    MisfitCode.MODEL_REFUSES_GPU: "refuses {archs} on a GPU below compute capability {wanted}, and"
    " this one has {given}",
    MisfitCode.MODEL_FAILS: "{wanted} fails in {cell}",
    MisfitCode.MODEL_FAILS_WITHOUT: "links, without {features}, and {wanted} fails without {given}"
    " in {cell}",
}
WITHOUT_GPU = (
    "The platform `cpu` of this matrix serves tests alone: it predicts what a GPU would show.",
    "vLLM has builds of its own for CPUs, which are not in this matrix:",
    "  https://docs.vllm.ai/en/latest/getting_started/installation/cpu/",
)
"""What a machine without a GPU can do."""
_KINDS: Mapping[EvidenceKind, str] = {
    EvidenceKind.MEASURED: "measured on this kind of GPU",
    EvidenceKind.ALIKE: "measured on another GPU of the same compute capability",
    EvidenceKind.ELSEWHERE: "measured on another GPU or processor",
    EvidenceKind.PREDICTED: "predicted by a run on the CPU",
    EvidenceKind.STATIC: "by checks alone",
}


def why(reason: Reason) -> str:
    """Return why a pair does not fit, as what follows the name of its vLLM."""
    if reason.code is MisfitCode.LITTLE_EVIDENCE:
        asked = f"--evidence {reason.wanted} was asked for"
        return f"known {_KINDS[EvidenceKind(reason.given)]}, and {asked}"
    if reason.code is MisfitCode.FAILS:
        where = f" in {clean(reason.cell)}" if reason.cell else ""
        because = clip(clean(reason_words(reason.because)), _LONGEST)
        python = "" if where or reason.given is None else f" on Python {reason.given}"
        return f"fails at `{reason.rung}`{python}{where}: {because}".rstrip(": ")
    if reason.code is MisfitCode.PREDICTED_TO_FAIL:
        rung = f" at `{reason.rung}`" if reason.rung else ""
        return f"is predicted to fail{rung}, as {clean(reason.cell or '')} did on the CPU"
    return _FORMS[reason.code].format(
        its="its wheel" if reason.project == "vllm" else "its torch",
        cuda=reason.cuda,
        wanted=clip(clean(reason.wanted or ""), _LONGEST),
        given=reason.given,
        archs=listed(reason.archs),
        features=listed(reason.features),
        version=reason.version,
        cell=clean(reason.cell or ""),
    )


def groups(newer: Sequence[Excluded]) -> list[tuple[str, Excluded]]:
    """Return the releases of vLLM that do not fit for one cause, and one pair of each group.

    The group of the newest release comes first.
    """
    oldest_first = list(reversed(newer))
    places: dict[object, list[int]] = {}
    for place, excluded in enumerate(oldest_first):
        places.setdefault(excluded.reason.cause, []).append(place)
    found = sorted(places.values(), key=lambda group: -group[-1])
    names = [excluded.pair.vllm.version for excluded in oldest_first]
    return [(spans(names, group), oldest_first[group[-1]]) for group in found]


def releases(newer: Sequence[Excluded], wanted: str) -> str:
    """Return the releases of vLLM whose reason wants this, such as a driver."""
    oldest_first = list(reversed(newer))
    names = [excluded.pair.vllm.version for excluded in oldest_first]
    wants = [excluded.reason.wanted == wanted for excluded in oldest_first]
    return spans(names, [place for place, wants_it in enumerate(wants) if wants_it])


def largest(newer: Sequence[Excluded]) -> Excluded:
    """Return a pair of the cause that excludes most releases."""
    counted: dict[object, list[Excluded]] = {}
    for excluded in newer:
        counted.setdefault(excluded.reason.cause, []).append(excluded)
    return max(counted.values(), key=len)[0]


def evidence_words(evidence: Evidence, python: str, wish: Wish) -> str:
    """Return on what an advice for a Python rests, in one line."""
    without = without_words(evidence.without)
    if evidence.measured is not None:
        is_any = evidence.kind is EvidenceKind.MEASURED and wish.gpu is None
        how = "measured" if is_any else _KINDS[evidence.kind]
        return f"{how}: {measured_words(evidence.measured, python)}{without and f'; {without}'}"
    if evidence.predicted is not None:
        predicted = f"predicted: {prediction.sentence(evidence.predicted)}"
        return clean(f"{predicted}{without and f'; {without}'}")
    rungs = [rung for rung in evidence.passed if not (without and rung is Rung.LINKS)]
    passed = f"passed: {listed(rungs)}" if rungs else ""
    asked = [rung for rung in evidence.unknown if rung in ("declared", "resolves", "links")]
    unasked = f"not asked: {listed(asked)}" if asked else ""
    checks = "; ".join(filter(None, (passed, without, unasked)))
    if not passed and not without:
        checks = "; ".join(filter(None, ("none passed", unasked)))
    return f"{_KINDS[evidence.kind]}, {_no_run(evidence.on_cpu)}; {checks}"


def addition_words(install: Install) -> list[str]:
    """Return what each requirement does that vLLM's own metadata does not have."""
    why = "the resolver's own choice does not work without it"
    return [f"{added.requirement}: {added.effect or why}" for added in install.additions]


def without_words(features: Sequence[str]) -> str:
    """Return that a pair links without some features; "" where all link."""
    return f"links, without {listed(features)}" if features else ""


def failed_without_words(failures: Sequence[FailedWithout]) -> str:
    """Return which cases failed with another torch that lacks a feature, and where."""
    found: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        found.setdefault((failure.feature, failure.cell), []).append(case_words(failure.case))
    return "; ".join(
        f"without {feature}, in {clean(cell)}: {listed(cases)}"
        for (feature, cell), cases in found.items()
    )


def _no_run(found: CpuRun | None) -> str:
    """Return that no run of the pair counts, and what a run on the CPU shows all the same."""
    if found is None:
        return "without a run of the pair"
    ran = marks.part(found.part) or plural(found.cases, "case")
    model = " without that model" if found.has_model is False else ""
    run = f"{found.cell} on cpu, {found.day}: {ran}{model}, {found.started} started warm"
    return clean(f"without a run of the pair on a GPU ({run}; it predicts nothing)")


def measured_words(found: MeasuredRun, python: str) -> str:
    """Return where a run was, how its cases ended, and its record."""
    counts = dict.fromkeys(Verdict, 0)
    for case in found.cases:
        counts[case.verdict] += 1
    counted = [
        f"{plural(counts[verdict], 'case')} {words}"
        for verdict, words in (
            (Verdict.INCOMPATIBLE, "failed"),
            (Verdict.DRIFT, "drifted"),
            (Verdict.COMPATIBLE, "as expected"),
            (Verdict.UNTESTED, "started warm, not judged"),
        )
        if counts[verdict]
    ]
    driver = f", driver {found.driver}" if found.driver else ""
    other = f", on Python {found.python}" if found.python != python else ""
    text = f"{run_words(found, driver + other)}: {listed(counted)} ({found.record})"
    return clean(text)


def run_words(found: MeasuredRun, more: str = "") -> str:
    """Return on which GPU and which day a run was, and how it is not a whole or a stock one."""
    marked = (marks.part(found.part), "" if found.is_stock else stock.NOT_STOCK)
    which = "".join(f", {mark}" for mark in marked if mark)
    return clean(f"{found.gpu or 'a GPU without a name'}{more}, {found.day}{which}")


def warm_words(cases: Iterable[CaseStarts]) -> str:
    """Return how many of some cases load all on their warm start, and which compile again.

    Of a case that is not as expected this is not known.
    """
    every = list(cases)
    judged = [case for case in every if case.verdict is Verdict.COMPATIBLE]
    if not judged:
        return UNKNOWN
    issues = tuple(case.recompiles.issues for case in judged if case.recompiles is not None)
    counted = plural(len(judged), "case")
    known = f"of {counted} {marks.recompile_for(issues)}"
    if not issues:
        known = f"none of {counted} compiles again"
    rest = len(every) - len(judged)
    return f"{known}; {UNKNOWN} of {plural(rest, 'other case')}" if rest else known


def case_words(name: str) -> str:
    """Return the name of a case, which a record may make as long as it likes."""
    return clip(clean(name), _CASE)


def predicted_warm(found: Prediction, model: str | None) -> str:
    """Return which cases are predicted to compile again warm: the model, else all of them.

    Of a case that is not predicted as expected this is not known.
    """
    good = [
        case for case, forecast in found.cases.items() if forecast.verdict is Verdict.COMPATIBLE
    ]
    if model is not None:
        again = "compiles again" if model in found.recompiling else "loads all it needs"
        return f"{case_words(model)}: {f'predicted: {again}' if model in good else UNKNOWN}"
    if not good:
        return UNKNOWN
    again = listed([case_words(name) for name in found.recompiling]) or "nothing"
    verb = "compile" if len(found.recompiling) > 1 else "compiles"
    rest = len(found.cases) + len(found.unanswered) - len(good)
    others = f"; {UNKNOWN} of {plural(rest, 'other case')}" if rest else ""
    return f"predicted: {again} {verb} again{others}"


def start_words(case: CaseStarts) -> str:
    """Return how one case starts: seconds, and what its warm start compiles again."""
    times = f"cold {seconds(case.cold)} s, warm {seconds(case.warm)} s"
    if case.verdict is Verdict.INCOMPATIBLE:
        return f"fails; {times}"
    if case.verdict is not Verdict.COMPATIBLE:
        how = "drifts" if case.verdict is Verdict.DRIFT else "not judged"
        return f"{times}, {how}; what compiles again is {UNKNOWN}"
    return f"{times}, {again_words(case.recompiles)}"


def again_words(found: Recompiles | None) -> str:
    """Return whether a warm start compiles again, with the links to the issues."""
    if found is None:
        return "loads all it needs warm"
    return f"compiles again warm: {' '.join(found.issues) or NO_ISSUE}"


def wheel_words(needs: WheelNeeds) -> str:
    """Return what a wheel needs of a machine, and what of it the GPU can run."""
    glibc = _glibc_words(needs)
    if needs.is_for_cpu:
        return f"without CUDA, {glibc}, GPU code {code_words(needs)}"
    driver = f"driver {_driver_words(needs)}"
    return f"CUDA {cuda_words(needs)}, {driver}, {glibc}, GPU code {code_words(needs)}"


def _driver_words(needs: WheelNeeds) -> str:
    """Return the driver that a wheel needs: for its machine code, and for PTX where that differs.

    Machine code runs on any driver of the CUDA's major release; PTX takes the driver of its CUDA,
    which is not named where the wheel has machine code for the GPU that was asked for.
    """
    if needs.is_cuda_unread:
        return NOT_READ
    if needs.driver is None:
        return UNKNOWN
    least, own = needs.driver.least, needs.driver.own
    if own == least:
        return f"{least} or newer"
    if needs.code is not None and needs.code.fit is CodeFit.PTX:
        return f"{own} or newer, to compile the PTX of CUDA {needs.driver.version}"
    cuda = needs.driver.version
    any_of = f"{least} or newer (any of CUDA {cuda.partition('.')[0]}"
    has_code = needs.code is not None and needs.code.fit is not CodeFit.NONE
    return f"{any_of})" if has_code else f"{any_of}; for PTX {own}, that of CUDA {cuda})"


def _glibc_words(needs: WheelNeeds) -> str:
    """Return the glibc of a wheel's tag, and of its libraries where that is newer or not read."""
    tag = f"glibc {needs.wheel_glibc} or newer" if needs.wheel_glibc else f"glibc {UNKNOWN}"
    if not needs.is_read:
        return f"{tag} by its tag (glibc of its libraries: {NOT_READ})"
    if needs.glibc is None or needs.wheel_glibc is None:
        return tag
    is_newer = parse_version(needs.glibc) > parse_version(needs.wheel_glibc)
    return f"glibc {needs.glibc} or newer, for its libraries" if is_newer else tag


def branches_words(found: DriverBranches) -> str:
    """Return which branches of the driver know a GPU; "" if that is not known."""
    if not any(found):
        return ""
    first = f"R{found.first} or newer" if found.first else ""
    last = f"R{found.last} or older" if found.last else ""
    return f"known to drivers of branch {', '.join(filter(None, (first, last)))}"


def cuda_words(needs: WheelNeeds) -> str:
    """Return the CUDA of a wheel, or why none is named."""
    if needs.is_for_cpu:
        return "none"
    return needs.cuda or (NOT_READ if needs.is_cuda_unread else UNKNOWN)


def code_words(needs: WheelNeeds) -> str:
    """Return for which chips a wheel has code, and how that of the GPU in question is made."""
    if needs.is_for_cpu:
        return "none: the index's wheel is without CUDA"
    if not needs.is_read or not needs.archs:
        return NOT_READ
    code = needs.code
    if code is None:
        return f"for {listed(needs.archs)}"
    how = {
        CodeFit.OWN: "for exactly this chip",
        CodeFit.NEAR: f"for a chip of the same major capability ({listed(needs.archs)})",
        CodeFit.PTX: "as PTX, which the driver compiles",
        CodeFit.NONE: "not for this chip",
    }[code.fit]
    without = f", none of {listed(code.without)}" if code.without else ""
    return f"{how}{without}"
