"""Find the first release along an axis whose result differs, in a logarithmic number of runs.

Pure. An axis is one vLLM under several torch, or one torch with several vLLM, as environments from
old to new; each of the several is a release, a nightly build or a commit. The search is for what
the newest shows and the oldest does not; where only the oldest fails, it is for the first release
with the fix. As in `git bisect`, a release without a usable result is skipped; where only skipped
releases lie between the last good and the first bad one, the answer is a few candidates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from packaging.version import InvalidVersion, Version

from matrix._util.enums import StrEnum
from matrix._util.versions import minor_of, parse_version
from matrix.attribution.observations import Observation, ObservationEnd, newest_first, own_runs
from matrix.attribution.symptoms import State, Symptom, state_of, symptoms_between
from matrix.catalog.cells import Cell, build_of, public_key
from matrix.catalog.projects import Project
from matrix.errors import MatrixError
from matrix.record.model import WHOLE_RUN, Departure, Platform


class BisectionError(MatrixError):
    """A search without an answer: a bad range, or outcomes that contradict each other."""


class EndsError(BisectionError):
    """The two ends of a search are not what a search needs: one good and one bad.

    `ends` is what each of the two did, by environment, the older one first.
    """

    def __init__(self, text: str, ends: Mapping[str, Observation]) -> None:
        """Keep what the two ends did."""
        super().__init__(text)
        self.ends = ends


class BisectionOutcome(StrEnum):
    """The outcome of one release in a bisection.

    `SKIP`: the release cannot be judged; `Skip` says why. `RAN`: it ran, but cannot be judged
    before both ends ran. `UNCLEAR`: it ran with several sets of flags, and nothing
    shows which set is its own.
    """

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"
    RAN = "ran"
    UNCLEAR = "unclear"


class SkipCode(StrEnum):
    """Why a release is skipped.

    `RULED_OUT`: a static check shows that it cannot run. `NO_RESULT`: its run has no result for the
    case, and another would have none. `NOT_STOCK`: it ran in an environment that is not stock, and
    another release in a stock one. `NEITHER`: it shows neither what the bad nor what the good end
    shows. `NOT_MADE`: no environment can be made of it, such as a nightly build that is gone.
    """

    RULED_OUT = "ruled_out"
    NO_RESULT = "no_result"
    NOT_STOCK = "not_stock"
    NEITHER = "neither"
    NOT_MADE = "not_made"


@dataclass(frozen=True, kw_only=True)
class Skip:
    """Why an environment is skipped.

    `not_stock` is how its packages differ, where that is why. `detail` is the reason that its run
    or its making gave, where there is one.
    """

    code: SkipCode
    not_stock: tuple[Departure, ...] = ()
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class Bisection:
    """The progress of a bisection.

    `next` is the release to run, None when the search is done; then `first_bad` is the answer, or
    one of `candidates` is, of which all but the last were skipped. `steps` is the maximum number of
    runs that remain if no release has to be skipped.
    """

    next: str | None
    good: str | None
    bad: str | None
    candidates: tuple[str, ...]
    steps: int

    @property
    def done(self) -> bool:
        """Return whether nothing remains to run."""
        return self.next is None

    @property
    def first_bad(self) -> str | None:
        """Return the first bad release, None while it is unknown."""
        return self.candidates[0] if self.done and len(self.candidates) == 1 else None


def bisect(releases: Sequence[str], known: Mapping[str, BisectionOutcome]) -> Bisection:
    """Return the next step: `releases` from old to new, `known` the outcomes so far.

    The newest release is tried first, then the oldest: without a bad and a good one there is
    nothing to search. Where an end is skipped, its neighbour is tried instead.

    >>> known = {"2.9": BisectionOutcome.GOOD, "2.11": BisectionOutcome.BAD}
    >>> bisect(["2.9", "2.10", "2.11"], known).next
    '2.10'

    Raises BisectionError if an older release is bad and a newer one good, if all are good or all
    are bad, or if all were skipped.
    """
    outcomes = [known.get(release) for release in releases]
    goods = [index for index, outcome in enumerate(outcomes) if outcome is BisectionOutcome.GOOD]
    bads = [index for index, outcome in enumerate(outcomes) if outcome is BisectionOutcome.BAD]
    if goods and bads and bads[0] < goods[-1]:
        raise BisectionError(
            f"bisect: {releases[bads[0]]} is bad and the newer {releases[goods[-1]]} is good, so no"
            " release is the first bad one; run both again, the newest run of each counts, or"
            " narrow the range"
        )
    untried = [index for index, outcome in enumerate(outcomes) if outcome is None]
    good = goods[-1] if goods else None
    bad = bads[0] if bads else None
    if good is None or bad is None:
        return _try_an_end(releases, untried, good, bad)
    between = [index for index in untried if good < index < bad]
    # The middle of the untried releases, not of the range: skipped ones must not unbalance it.
    middle = releases[between[(len(between) - 1) // 2]] if between else None
    return Bisection(
        next=middle,
        good=releases[good],
        bad=releases[bad],
        candidates=tuple(releases[good + 1 : bad + 1]),
        steps=len(between).bit_length(),
    )


def _try_an_end(
    releases: Sequence[str], untried: Sequence[int], good: int | None, bad: int | None
) -> Bisection:
    """Return the next step while the good or the bad end is unknown."""
    if bad is None:
        above = [index for index in untried if good is None or index > good]
        if not above:
            verdict = "no result is known" if good is None else "each known result is good"
            raise BisectionError(f"bisect: no release is bad ({verdict}); widen the range")
        following = above[-1]
    else:
        below = [index for index in untried if index < bad]
        if not below:
            raise BisectionError(
                f"bisect: no release before {releases[bad]} is good; begin with an older one"
            )
        following = below[0]
    low, high = good if good is not None else -1, bad if bad is not None else len(releases) - 1
    left = [index for index in untried if low < index < high and index != following]
    ends = 1 + (good is None and bad is None)
    left = left[ends - 1 :]  # without the other end, which is the oldest untried one
    return Bisection(
        next=releases[following],
        good=None if good is None else releases[good],
        bad=None if bad is None else releases[bad],
        candidates=tuple(releases[low + 1 : high + 1]),
        steps=ends + len(left).bit_length(),
    )


@dataclass(frozen=True, kw_only=True)
class Search:
    """The progress of a search along an axis of environments.

    `moving` is the package whose release changes along the axis, and `labels` are these releases by
    environment. `outcomes` are by environment, oldest first, None for one that never ran; `skips`
    says why some are skipped. `symptoms` is what
    the search is for, empty until both ends ran; `fixed` is set where the newer releases are the
    clean ones. `unnamed` are the releases between the ends that no environment installs.
    """

    moving: Project
    labels: Mapping[str, str]
    outcomes: Mapping[str, BisectionOutcome | None]
    skips: Mapping[str, Skip]
    symptoms: tuple[Symptom, ...]
    fixed: bool
    bisection: Bisection
    unnamed: tuple[str, ...] = ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Return the unnamed releases that may be the first bad one."""
        good, bad = self.bisection.good, self.bisection.bad
        return tuple(
            release
            for release in self.unnamed
            if (good is None or parse_version(self.release(good)) < parse_version(release))
            and (bad is None or parse_version(release) < parse_version(self.release(bad)))
        )

    def release(self, name: str) -> str:
        """Return an environment's release of the package that changes along the axis."""
        return self.labels[name]


def parse_range(text: str, option: str) -> tuple[str, str] | str:
    """Return the two ends of a range, or the one release of a fixed package.

    An end may be the release key of a candidate, which stays as it is.

    >>> parse_range("2.11.0..2.15.0", "--torch"), parse_range("0.20.2", "--vllm")
    (('2.11.0', '2.15.0'), '0.20.2')

    Raises BisectionError, which names the option.
    """
    low, dots, high = text.partition("..")
    try:
        if not dots:
            return public_key(text)
        if parse_version(low) < parse_version(high):
            return public_key(low), public_key(high)
    except InvalidVersion:
        pass
    raise BisectionError(
        f"{option} {text!r}: is neither a release nor a range from an older to a newer one; write"
        " it as 2.11.0 or 2.11.0..2.15.0"
    )


def environments_along(
    environments: Mapping[str, Cell],
    python: str,
    torch: tuple[str, str] | str,
    vllm: tuple[str, str] | str,
) -> tuple[Project, dict[str, Cell]]:
    """Return the package whose release changes, and the environments of the axis, oldest first.

    An environment stands for a minor release, so a range includes those of both its ends, whatever
    their patches: 2.10.0..2.14.0 ends with the environment of 2.14. A range means releases; of
    candidates only those at its ends are in it.

    Raises BisectionError unless exactly one of the two is a range and at least two environments are
    in it.
    """
    if isinstance(torch, str) == isinstance(vllm, str):
        raise BisectionError(
            "bisect: of --torch and --vllm one is a release and the other a range, such as"
            " --vllm 0.20.2 --torch 2.11.0..2.15.0"
        )
    moving = Project.VLLM if isinstance(torch, str) else Project.TORCH
    ranges = {"torch": torch, "vllm": vllm}
    found = {
        name: cell
        for name, cell in environments.items()
        if cell.python == python
        and all(_is_within(getattr(cell, key), ends) for key, ends in ranges.items())
    }
    if len(found) < 2:
        names = ", ".join(found) or "none"
        raise BisectionError(
            f"bisect: the line has fewer than two environments on Python {python} ({names}); a name"
            " stands for the newest patch of a minor release, so give such releases"
        )
    order = sorted(found, key=lambda name: Version(getattr(found[name], moving)))
    return moving, {name: found[name] for name in order}


def observed_along(
    axis: Mapping[str, Cell], case: str, platform: Platform, observations: Iterable[Observation]
) -> tuple[dict[str, Observation], set[str]]:
    """Return the run that represents each environment of an axis, and the unclear environments.

    The run is the newest of the case with the release's own flags, on this Python. Where the case
    does not apply to the cell, or the newest run failed before any case, the observation is one
    that ended with nothing. An interrupted run counts as if it never started. An environment is
    unclear if it ran with several sets of flags and nothing shows which set is its own.
    """
    by_cell: dict[Cell, list[Observation]] = {}
    for observation in observations:
        if observation.platform == platform and observation.case in (case, WHOLE_RUN):
            by_cell.setdefault(observation.cell, []).append(observation)
    seen, unclear = {}, set()
    for name, cell in axis.items():
        runs = by_cell.get(cell, ())
        own = own_runs((run for run in runs if run.case != WHOLE_RUN), cell.python)
        without = [
            run
            for run in runs
            if (run.case == WHOLE_RUN and run.ended is ObservationEnd.FAILED) or not run.applies
        ]
        last = next(iter(newest_first(without)), None)
        if last is not None and all(last.age > group[0].age for group in own):
            seen[name] = replace(last, case=case, ended=ObservationEnd.NOTHING)
        elif len(own) == 1:
            seen[name] = own[0][0]
        elif own:
            unclear.add(name)
    return seen, unclear


def search(
    moving: Project,
    labels: Mapping[str, str],
    seen: Mapping[str, Observation],
    ruled_out: Collection[str] = (),
    unclear: Collection[str] = (),
    *,
    without_result: Collection[str] = (),
    not_made: Mapping[str, str] | None = None,
    details: Mapping[str, str] | None = None,
) -> Search:
    """Return the next environment of the axis to run, or the first whose result differs.

    `labels` are the releases of the axis by environment, oldest first; `seen` is the run that
    represents each environment. Those that are `ruled_out`, that were tried `without_result`, or
    that are `not_made` for a reason, are skipped, and those that are `unclear` are tried as if they
    never ran. `details` is why runs have no result, as far as that is known. Raises BisectionError
    where there is nothing to find.
    """
    names = list(labels)
    skips = _skipped(names, seen, ruled_out, without_result)
    for name, skip in skips.items():
        if skip.code is SkipCode.NO_RESULT and details:
            skips[name] = replace(skip, detail=details.get(name))
    for name, reason in (not_made or {}).items():
        skips[name] = Skip(code=SkipCode.NOT_MADE, detail=reason)
    tried = [name for name in names if name not in skips]
    if len(tried) < 2:
        raise _too_few(tried, skips, len(names))
    first, last = tried[0], tried[-1]
    outcomes: dict[str, BisectionOutcome | None] = {
        name: BisectionOutcome.SKIP if name in skips else None for name in names
    }
    symptoms: tuple[Symptom, ...] = ()
    fixed = False
    if first in seen and last in seen:
        symptoms, fixed = _compare_ends(first, last, seen)
        for name in tried:
            if name in seen:
                outcomes[name] = _outcome(symptoms, seen[name], fixed=fixed)
                if outcomes[name] is BisectionOutcome.SKIP:
                    skips[name] = Skip(code=SkipCode.NEITHER)
    known = {name: outcome for name, outcome in outcomes.items() if outcome is not None}
    if not symptoms:
        # Until both ends ran nothing shows which of them is the bad one, and either will do.
        outcomes |= {name: BisectionOutcome.RAN for name in tried if name in seen}
        known |= {first: BisectionOutcome.GOOD} if first in seen else {}
        known |= {last: BisectionOutcome.BAD} if last in seen else {}
    for name in names:
        if name in unclear and outcomes[name] is None:
            outcomes[name] = BisectionOutcome.UNCLEAR
    return Search(
        moving=moving,
        labels=dict(labels),
        outcomes=outcomes,
        skips=skips,
        symptoms=symptoms,
        fixed=fixed,
        bisection=bisect(names, known),
    )


def _too_few(tried: Sequence[str], skips: Mapping[str, Skip], count: int) -> BisectionError:
    why = next((f" ({skip.detail})" for skip in skips.values() if skip.detail), "")
    return BisectionError(
        f"bisect: only {', '.join(tried) or 'nothing'} of {count} environments can run this"
        f" case{why}; choose another platform, or widen the range"
    )


def _compare_ends(
    first: str, last: str, seen: Mapping[str, Observation]
) -> tuple[tuple[Symptom, ...], bool]:
    """Return what the search is for, and whether the newer releases are the clean ones."""
    old, new = seen[first], seen[last]
    found = symptoms_between(new, old)
    if found and state_of(found[0], old) is State.CLEAN:
        return found, False
    found = symptoms_between(old, new)
    if found and found[0].fails and state_of(found[0], new) is State.CLEAN:
        return found, True
    raise EndsError(
        f"bisect: {first} and {last} have the same result, or each fails in its own way: no"
        " release between them changes it; `matrix results diff` shows two records side by side",
        {first: old, last: new},
    )


def _skipped(
    names: Iterable[str],
    seen: Mapping[str, Observation],
    ruled_out: Collection[str],
    without_result: Collection[str],
) -> dict[str, Skip]:
    """Return the environments that cannot be judged, and why.

    Where some runs are stock, those that are not are among them: their packages may be the cause
    as well as their release.
    """
    ended = {name: run for name, run in seen.items() if run.ended is not ObservationEnd.NOTHING}
    any_stock = any(run.is_stock for run in ended.values())
    skips: dict[str, Skip] = {}
    for name in names:
        if name in ruled_out:
            skips[name] = Skip(code=SkipCode.RULED_OUT)
        elif name in without_result or (name in seen and name not in ended):
            skips[name] = Skip(code=SkipCode.NO_RESULT)
        elif name in ended and any_stock and not ended[name].is_stock:
            skips[name] = Skip(code=SkipCode.NOT_STOCK, not_stock=ended[name].not_stock)
    return skips


def _outcome(symptoms: Sequence[Symptom], seen: Observation, *, fixed: bool) -> BisectionOutcome:
    """Return the outcome of one environment; with `fixed`, `BAD` stands for the fixed releases."""
    states = {state_of(symptom, seen) for symptom in symptoms}
    if states == {State.SHOWS}:
        return BisectionOutcome.GOOD if fixed else BisectionOutcome.BAD
    if states == {State.CLEAN}:
        return BisectionOutcome.BAD if fixed else BisectionOutcome.GOOD
    return BisectionOutcome.SKIP


def _is_within(version: str, ends: tuple[str, str] | str) -> bool:
    """Return whether a version is this one, or lies between the minor releases of both ends.

    A candidate is within only where it is an end. Where one is, the releases up to it are within.
    """
    if isinstance(ends, str):
        return version == ends
    if build_of(version) is not None:
        return version in ends
    low, high = ends
    here, minor = Version(version), Version(minor_of(version))
    above = minor >= Version(minor_of(low)) if build_of(low) is None else here > _base(low)
    below = minor <= Version(minor_of(high)) if build_of(high) is None else here < _base(high)
    return above and below


def _base(key: str) -> Version:
    """Return the version of a release key, without the candidate's name and identity."""
    return Version(Version(key).public)
