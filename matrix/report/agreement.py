"""The CPU as predictor, shown: its own page, a section of the table, JSON, and a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

from matrix._util.grouped import group
from matrix._util.text import aligned, clean, clip, code, markdown, tabular
from matrix.record.model import Outcome, Platform, StartKind
from matrix.report import marks
from matrix.report.coded import because, operand
from matrix.report.reasons import reason_words
from matrix.report.stock import mark
from matrix.rules.counters import DEFAULT_COUNTERS
from matrix.rules.platform_differences import Explanation
from matrix.verdict.agreement import (
    Agreement,
    CaseEnded,
    ComparedCount,
    ComparedPair,
    Figures,
    NotRunOnCpu,
    PredictedCase,
    total,
)
from matrix.verdict.ladder import Part
from matrix.verdict.reasons import VerdictReason
from matrix.verdict.share import Share

AGREEMENT_FILE = "agreement.md"
"""The name of the page's file, in the folder of the table."""

_HEAD = (
    "# The CPU as predictor\n\n"
    "CUDA decides. This page compares with it what the CPU platform counts without a GPU, once for "
    "each pair of releases that ran on both, by the newest records.\n"
)
_NONE = "No pair of releases ran on both platforms yet.\n"
_LEGEND = """\
- **expected counters**: the five that expectations name (artifacts saved and loaded; \
AOTAutograd's total, cache miss and cache hit), in the starts that ran on both platforms
- **of all that CUDA counted**: the same five in every start that CUDA ran; a case that the CPU \
cannot run counts as wrong
- **every counter**: all that both releases report in a start that ran on both; **not 0 on both** \
leaves out those that never moved
- **cases**: those that CUDA started, and of them those whose every start ran on the CPU too
- **held out** (\\*): the pairs that the CPU ran before their vLLM release ever ran on CUDA, so \
nothing of the CPU platform was made to fit what CUDA counts there
"""
_HELD_OUT = " *"
_COLUMNS = (
    "expected counters",
    "of all that CUDA counted",
    "every counter",
    "not 0 on both",
    "cases",
)
_SHORT = ("saved", "loaded", "total", "miss", "hit")
_UNEXPLAINED = "not explained"


def section(agreement: Agreement) -> str:
    """Return the summary in the table; "" if no pair of releases ran on both platforms."""
    if not agreement.pairs:
        return ""
    figures = agreement.figures
    differing, unexplained = len(agreement.differences), len(agreement.unexplained)
    return (
        "## The CPU as predictor\n\n"
        f"A run without a GPU predicts **{figures.expected}** of the counters that expectations "
        f"speak of, where both platforms ran the case: {figures.counted} of all that CUDA counted, "
        f"since it cannot run every case. Of every counter it predicts {figures.every}, or "
        f"{figures.raised} without those that are 0 on both. {_held_out(agreement)}"
        f"{_differ(differing, unexplained)} "
        f"[Side by side, and why]({AGREEMENT_FILE}).\n\n"
        + "\n".join([_figures(agreement), *_partial(agreement)])
    )


def page(agreement: Agreement) -> str:
    """Return the page: figures, both platforms side by side, every difference and why."""
    if not agreement.pairs:
        return "\n".join([_HEAD, _NONE, *_alone(agreement)])
    return "\n".join(
        [
            _HEAD,
            "## Share that the CPU predicts correctly\n",
            _figures(agreement),
            *_not_stock(agreement),
            *_partial(agreement),
            _LEGEND,
            "## By case\n",
            _cases(agreement),
            "## By counter\n",
            _counters(agreement),
            "## Side by side\n",
            "CUDA's numbers, and the CPU's where they differ.\n",
            _side_by_side(agreement),
            "## What differs, and why\n",
            *_differences(agreement),
            *_left_out(agreement),
        ]
    )


def content(agreement: Agreement) -> dict[str, object]:
    """Return the agreement as JSON values, of which the table's JSON Schema has the form."""
    predictions = group(agreement.predictions, lambda prediction: prediction.pair)
    return {
        "figures": _shares(agreement.figures),
        "held_out": None if agreement.held_out is None else _shares(agreement.held_out),
        "pairs": [_pair(agreement, pair, predictions[pair]) for pair in agreement.pairs],
        "counters": {counter: _share(share) for counter, share in agreement.shares.items()},
        "one_sided": list(agreement.one_sided),
        "alone": list(agreement.alone),
    }


def explanations(agreement: Agreement) -> list[dict[str, object]]:
    """Return the explanations of its differences as JSON values."""
    return [
        {"id": why.id, "text": " ".join(why.text.split()), "evidence": list(why.evidence)}
        for why in _explanations(agreement.differences)
    ]


def lines(agreement: Agreement) -> str:
    """Return differences and why, what was not predicted, and the figures, as aligned text."""
    parts = []
    differences = agreement.differences
    for pair in agreement.pairs:
        parts.append(f"{_name(pair)}: {pair.cuda} on cuda, {pair.cpu} on cpu")
        parts += [f"{cell} on {platform} is {words}" for cell, platform, words in _apart(pair)]
        parts += [
            f"{cell} on {platform} ran {marks.part(part)}" for cell, platform, part in _parts(pair)
        ]
        differing = [difference for difference in differences if difference.pair == pair]
        if differing:
            parts += ["", *_by_case(differing)]
        missing = [
            (_plain(prediction.case), clip(clean(prediction_words(prediction.reason)), 100))
            for prediction in agreement.predictions
            if prediction.pair == pair and prediction.reason
        ]
        if missing:
            parts += ["", *aligned([("case", "not predicted"), *missing])]
        parts.append("")
    reasons = [(why.id, " ".join(why.text.split())) for why in _explanations(differences)]
    if reasons:
        parts += [*aligned([("why", ""), *reasons]), ""]
    shares = [
        (name, *map(_percent, _all_shares(figures))) for name, figures in _figure_rows(agreement)
    ]
    parts += aligned([("predicted correctly", *_COLUMNS), *shares])
    if agreement.held_out is not None:
        parts += ["", "* held out: the CPU ran before this vLLM release ever ran on CUDA"]
    return "\n".join(parts) + "\n"


def _by_case(differences: Sequence[ComparedCount]) -> list[str]:
    """Return the differences of a pair as a table, with the name of a case above its counters."""
    head = ("  start", "counter", "cuda", "cpu", "why")
    rows = [
        (
            f"  {difference.start}",
            _plain(difference.counter),
            str(difference.cuda),
            str(difference.cpu),
            ", ".join(why.id for why in difference.why) or _UNEXPLAINED,
        )
        for difference in differences
    ]
    first, *shown = aligned([head, *rows], right=(2, 3))
    found = ["case", first]
    case = None
    for difference, line in zip(differences, shown, strict=True):
        if difference.case != case:
            case = difference.case
            found.append(_plain(case))
        found.append(line)
    return found


def _apart(pair: ComparedPair) -> list[tuple[str, str, str]]:
    """Return the cell, the platform and the mark of each run of a pair that is not stock."""
    runs = (pair.cuda, "cuda", pair.cuda_not_stock), (pair.cpu, "cpu", pair.cpu_not_stock)
    return [(cell, platform, mark(found)) for cell, platform, found in runs if found]


def _parts(pair: ComparedPair) -> list[tuple[str, str, Part]]:
    """Return the cell, the platform and how many of the cases each partial run of a pair has."""
    runs = (pair.cuda, "cuda", pair.cuda_part), (pair.cpu, "cpu", pair.cpu_part)
    return [(cell, platform, part) for cell, platform, part in runs if part]


def _partial(agreement: Agreement) -> list[str]:
    """Return a list of the runs that have some of the cases only."""
    lines = [
        f"- {markdown(_name(pair))}: {code(cell)} on {platform} ran {marks.part(part)}"
        for pair in agreement.pairs
        for cell, platform, part in _parts(pair)
    ]
    return ["Runs of only some cases; the missing cases have no prediction:\n", *lines, ""] * bool(
        lines
    )


def _not_stock(agreement: Agreement) -> list[str]:
    """Return a list of the runs that are not stock; what they count may be their environment's."""
    lines = [
        f"- {markdown(_name(pair))}: {code(cell)} on {platform} is {markdown(words)}"
        for pair in agreement.pairs
        for cell, platform, words in _apart(pair)
    ]
    if not lines:
        return []
    return ["Runs that are not stock, whose counts can come from their environment:\n", *lines, ""]


def _figures(agreement: Agreement) -> str:
    rows = [
        [markdown(name), *(str(share) for share in _all_shares(figures))]
        for name, figures in _figure_rows(agreement)
    ]
    return tabular(["", *_COLUMNS], rows, right=range(1, len(_COLUMNS) + 1))


def _figure_rows(agreement: Agreement) -> list[tuple[str, Figures]]:
    """Return the figures of each pair, and of all where there are several."""
    rows = [
        (_name(pair) + _HELD_OUT * pair.held_out, total(cases.values()))
        for pair, cases in agreement.figures_of.items()
    ]
    if len(rows) > 1:
        rows.append(("all", agreement.figures))
    held_out = agreement.held_out
    return rows if held_out is None else [*rows, (f"held out{_HELD_OUT}", held_out)]


def _held_out(agreement: Agreement) -> str:
    """Return the share of the pairs that are held out as a sentence; "" if there are none."""
    held_out = agreement.held_out
    if held_out is None:
        return ""
    return (
        "Of the pairs that the CPU ran before their vLLM ever ran on CUDA it predicts"
        f" **{held_out.expected}** of the counters that expectations speak of. "
    )


def _cases(agreement: Agreement) -> str:
    rows = []
    for prediction in agreement.predictions:
        figures = agreement.figures_of[prediction.pair][prediction.case]
        answer = (
            f"not predicted: {markdown(prediction_words(prediction.reason))}"
            if prediction.reason
            else "predicted"
        )
        if not prediction.started:
            answer = f"nothing to predict: {markdown(prediction_words(prediction.reason))}"
        shares = [str(share) if share.of else "-" for share in (figures.expected, figures.every)]
        rows.append([markdown(_name(prediction.pair)), code(prediction.case), *shares, answer])
    head = ["pair", "case", "expected counters", "every counter", ""]
    return tabular(head, rows, right=(2, 3))


def _counters(agreement: Agreement) -> str:
    shares = agreement.shares
    shown = {
        counter: share
        for counter, share in shares.items()
        if counter in DEFAULT_COUNTERS or share.right < share.of
    }
    text = tabular(
        ["counter", "predicted correctly"],
        [[code(counter), str(share)] for counter, share in shown.items()],
        right=(1,),
    )
    rest = len(shares) - len(shown)
    return f"{text}\nAll other counters ({rest}) agree in every start.\n" if rest else text


def _side_by_side(agreement: Agreement) -> str:
    rows = []
    for pair, cases in agreement.by_case.items():
        for case, of_case in cases.items():
            for start, counts in group(of_case, attrgetter("start")).items():
                seen = {count.counter: count for count in counts}
                numbers = [_both_numbers(seen.get(counter)) for counter in DEFAULT_COUNTERS]
                ran = "ran" if all(count.cpu is not None for count in counts) else "not run"
                rows.append([markdown(_name(pair)), code(case), start, *numbers, ran])
    return tabular(["pair", "case", "start", *_SHORT, "on the CPU"], rows, right=range(3, 8))


def _both_numbers(count: ComparedCount | None) -> str:
    if count is None:
        return "-"
    if count.agrees or count.cpu is None:
        return str(count.cuda)
    return f"{count.cuda}, CPU **{count.cpu}**"


def _differences(agreement: Agreement) -> list[str]:
    differences = agreement.differences
    if not differences:
        return ["Nothing, in the starts that ran on both platforms.\n"]
    numbers = {why: number for number, why in enumerate(_explanations(differences), 1)}
    rows = [
        [
            markdown(_name(difference.pair)),
            code(difference.case),
            difference.start,
            code(difference.counter),
            str(difference.cuda),
            str(difference.cpu),
            " ".join(f"\\[{numbers[why]}\\]" for why in difference.why) or _UNEXPLAINED,
        ]
        for difference in differences
    ]
    head = ["pair", "case", "start", "counter", "CUDA", "CPU", "why"]
    notes = [
        f"{number}. {markdown(why.text, 1000)} Evidence: {', '.join(map(_evidence, why.evidence))}."
        for why, number in numbers.items()
    ]
    return [tabular(head, rows, right=(4, 5)), *(["\n".join(notes) + "\n"] if notes else [])]


def _evidence(item: str) -> str:
    """Return a link as a link, and the path of a record as code."""
    # The rules let only links to upstream be evidence, so it is safe to show them as links.
    return f"<{item}>" if "://" in item else code(item)


def _left_out(agreement: Agreement) -> list[str]:
    text = _alone(agreement)
    if agreement.one_sided:
        names = ", ".join(code(name) for name in agreement.one_sided)
        text.append(
            "Counters that only one platform has in a start, most of them of its kernels, are in "
            f"no figure: {names}.\n"
        )
    return ["## Not in the figures\n", *text] if text else []


def _alone(agreement: Agreement) -> list[str]:
    if not agreement.alone:
        return []
    names = ", ".join(code(name) for name in agreement.alone)
    return [f"Ran on CUDA, but no cell of the same releases ran on the CPU: {names}.\n"]


def _pair(
    agreement: Agreement, pair: ComparedPair, predictions: Iterable[PredictedCase]
) -> dict[str, object]:
    figures, counts = agreement.figures_of[pair], agreement.by_case[pair]
    return {
        "torch": pair.torch,
        "vllm": pair.vllm,
        "cuda": pair.cuda,
        "cpu": pair.cpu,
        "held_out": pair.held_out,
        "not_stock": {platform: words for _, platform, words in _apart(pair)},
        "parts": {platform: marks.part(part) for _, platform, part in _parts(pair)},
        "partial": {platform: operand(part) for _, platform, part in _parts(pair)},
        "figures": _shares(total(figures.values())),
        "cases": [
            {
                "case": prediction.case,
                "predicted": prediction.reason is None if prediction.started else None,
                "reason": prediction.reason and prediction_words(prediction.reason),
                "because": because(prediction.reason),
                "figures": _shares(figures[prediction.case]),
                "counters": [_count(count) for count in counts.get(prediction.case, ())],
            }
            for prediction in predictions
        ],
    }


def _count(count: ComparedCount) -> dict[str, object]:
    return {
        "start": count.start,
        "counter": count.counter,
        "cuda": count.cuda,
        "cpu": count.cpu,
        "agrees": count.agrees,
        "why": [reason.id for reason in count.why],
    }


def _explanations(differences: Iterable[ComparedCount]) -> list[Explanation]:
    """Return each explanation of a difference once, in the order of the differences."""
    seen = {why.id: why for difference in differences for why in difference.why}
    return list(seen.values())


def _all_shares(figures: Figures) -> tuple[Share, ...]:
    return figures.expected, figures.counted, figures.every, figures.raised, figures.cases


def _percent(share: Share) -> str:
    """Return a share as a percentage, rounded down, and of how many: narrower than in full."""
    return f"{100 * share.right // share.of} % of {share.of}" if share.of else str(share)


def _shares(figures: Figures) -> dict[str, object]:
    names = ("expected", "counted", "every", "raised", "cases")
    return {name: _share(share) for name, share in zip(names, _all_shares(figures), strict=True)}


def _share(share: Share) -> dict[str, int]:
    return {"right": share.right, "of": share.of}


def _differ(differing: int, unexplained: int) -> str:
    if not differing:
        return "No counter differs."
    verb = "differs" if differing == 1 else "differ"
    return f"{differing} {verb}, {unexplained} of them not explained."


def _name(pair: ComparedPair) -> str:
    return f"torch {pair.torch}, vLLM {pair.vllm}"


def _plain(name: str) -> str:
    return clip(clean(name), 60)


def prediction_words(reason: CaseEnded | NotRunOnCpu | VerdictReason | None) -> str:
    """Return why a case is not predicted, or why CUDA did not start."""
    if isinstance(reason, NotRunOnCpu):
        return "was not run"
    if not isinstance(reason, CaseEnded):
        return reason_words(reason)
    on_cuda = reason.platform is Platform.CUDA
    if reason.outcome == Outcome.NOT_APPLICABLE and reason.text and not on_cuda:
        return reason.text  # that this is why it does not apply goes without saying
    words = reason.outcome.replace("_", " ") + (" on CUDA" if on_cuda else "")
    if reason.cpu_start is not None:
        warm = " warm" if reason.cpu_start is StartKind.WARM else ""
        words += f", but started{warm} on the CPU"
    return f"{words}: {reason.text}" if reason.text else words
