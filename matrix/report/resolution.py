"""The answers of the resolver as `matrix resolve` prints them: a line each, and a summary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from matrix._util.text import clean
from matrix.checks.resolution.cache import Resolution, ResolverQuestion
from matrix.checks.resolution.resolve_cells import ResolvePlan
from matrix.checks.resolution.resolver import ResolverError, TimedAnswer
from matrix.report.facts import facts_words

_PACKAGES = ("torchvision", "torchaudio", "triton", "transformers")


def known_lines(plan: ResolvePlan) -> list[str]:
    """Return a line for each answer that was known before."""
    width = _width(plan)
    return [
        f"{_question(answer.question):{width}}  {_answer(answer)}; asked on {answer.asked}"
        for answer in plan.known
    ]


def answered_line(plan: ResolvePlan, number: int, answered: TimedAnswer) -> str:
    """Return the line of the answer that came as the `number`-th, from 1."""
    total = len(plan.missing)
    counted = f"[{number:{len(str(total))}}/{total}] " if total > 1 else ""
    if isinstance(answered.answer, ResolverError):
        answer = f"no answer: {clean(str(answered.answer))}"
    else:
        answer = _answer(answered.answer)
    question = f"{_question(answered.question):{_width(plan)}}"
    return f"{counted}{question}  {answered.seconds:5.1f} s  {answer}"


def summary(plan: ResolvePlan, answers: Sequence[TimedAnswer], seconds: float) -> str:
    """Return how many cells resolve, how many do not, and the seconds that asking took."""
    new = [timed.answer for timed in answers if not isinstance(timed.answer, ResolverError)]
    every = [*plan.known, *new]
    resolved = [answer for answer in every if answer.ok]
    unknown = sum(answer.is_unknown for answer in every)
    without = sum(answer.cuda is None for answer in resolved)
    text = f"{len(resolved)} resolve" + (f" ({without} without CUDA)" if without else "")
    text += f", {len(every) - len(resolved) - unknown} do not"
    text += f", {unknown} not known yet" if unknown else ""
    if failed := len(answers) - len(new):
        text += f", {failed} without an answer"
    if plan.missing:
        text += f"; {len(plan.missing)} asked in {seconds:.1f} s"
    if plan.known:
        text += f"; {len(plan.known)} known before"
    return f"matrix: {text}"


def _width(plan: ResolvePlan) -> int:
    return max(len(_question(question)) for question in plan.questions)


def _question(question: ResolverQuestion) -> str:
    cell = question.cell
    form = "override" if question.override is not None else "declared"
    return f"{cell.name:24} torch {cell.torch:6} vLLM {cell.vllm:6} {form}"


def _answer(answer: Resolution) -> str:
    where = f"for {clean(answer.platform)}"
    if answer.more_indexes:
        where += ", with more indexes than the default one"
    if answer.is_unknown:
        return f"not known yet: {clean(facts_words(answer.facts))}; {where}"
    if not answer.ok:
        return f"does not resolve: {clean(facts_words(answer.facts))}; {where}"
    versions = ", ".join(_versions(answer))
    how = "resolves" if answer.cuda else "resolves for the CPU only: torch is a build without CUDA"
    built = f", CUDA {clean(answer.cuda)}" if answer.cuda else ""
    packages = f"{answer.count} packages" + (f" ({versions})" if versions else "")
    return f"{how}: {packages}; {where}{built}"


def _versions(answer: Resolution) -> Iterator[str]:
    names: Iterable[str] = (name for name in _PACKAGES if name in answer.packages)
    for name in names:
        yield f"{name} {answer.packages[name]}"
