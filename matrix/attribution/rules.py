"""The rules that attribute one symptom of one observation, in their order.

Pure. The first rule that answers decides.

1. *Repeats* disagree, or a newer one with other tests is clean: see `matrix.attribution.flaky`.
2. *Extensions.* On CUDA, extensions of vLLM do not link in the cell and do in a clean neighbour
   (`matrix.attribution.extensions`).
   - The failure names them, or only runs in which they do not link show the symptom, and several
     do: the pair, also where the axis is intermittent.
   - Otherwise, where rule 3 would blame a release alone along that axis, and no run shows that a
     flag alone is the cause: unknown, with the run that shows whether they are it.
3. *Axes.* An axis changes if it has a clean neighbour and is not intermittent.
   - Both axes change: the pair, for neither release alone is the cause.
   - The torch axis changes alone: torch. The vLLM axis changes alone: vLLM. Where nothing is known
     of the other axis, the run that could still make it the pair is named.
4. *Pythons.* No axis changes; the same pair is clean on another Python and shows the symptom on no
   other: the environment. Where an axis changes, rule 3 answers, for this Python only.
5. *Platform.* The same cell is clean on the other platform: the environment.
6. Otherwise unknown, with the runs that would decide. Where a clean run would decide if not only
   one of it and the cell's were stock, it is named, and the stock run of the other one's cell is
   what is missing. Where the only clean neighbour differs in its Python and in something else, both
   are named, with the runs that differ in one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from matrix._util.versions import minor_of, parse_version
from matrix.attribution import reasons
from matrix.attribution.confounders import confounders
from matrix.attribution.extensions import ExtensionDifference, Features, extension_differences
from matrix.attribution.flags import flag_changes
from matrix.attribution.flaky import compare_repeats
from matrix.attribution.model import Attribution, Cause, MissingRun
from matrix.attribution.neighbours import Axis, Neighbourhood
from matrix.attribution.observations import Observation
from matrix.attribution.reruns import Planner
from matrix.attribution.symptoms import State, Symptom
from matrix.catalog.releases import Releases
from matrix.record.defaults import DefaultChange, compare_defaults


@dataclass(frozen=True, kw_only=True)
class SymptomContext:
    """One symptom of one observation, with its axes and the clean runs on other Pythons."""

    symptom: Symptom
    around: Neighbourhood
    torch: Axis
    vllm: Axis
    clean_pythons: tuple[Observation, ...]
    planner: Planner
    releases: Releases
    features: Features

    @property
    def own(self) -> Observation:
        """Return the observation to attribute."""
        return self.around.own

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Return both axes, torch's first."""
        return self.torch, self.vllm


def attribute_symptom(
    symptom: Symptom,
    around: Neighbourhood,
    planner: Planner,
    releases: Releases,
    features: Features,
) -> Attribution:
    """Attribute one symptom of the observation in the midst of a neighbourhood."""
    own = around.own
    repeats = compare_repeats(own, symptom, around.same)
    if repeats is not None:
        missing = planner.repeat(own) if repeats.cause is Cause.UNKNOWN else ()
        return _answer(own, symptom, repeats.cause, repeats.reason, missing)
    situation = SymptomContext(
        symptom=symptom,
        around=around,
        torch=around.axis(symptom, reasons.Along.TORCH),
        vllm=around.axis(symptom, reasons.Along.VLLM),
        clean_pythons=around.clean_pythons(symptom),
        planner=planner,
        releases=releases,
        features=features,
    )
    difference = _extensions(situation)
    if difference is not None:
        return _by_extensions(situation, difference)
    if situation.torch.changes or situation.vllm.changes:
        return _by_axes(situation)
    if situation.clean_pythons:
        return _by_python(situation)
    foreign = around.clean_platform(symptom)
    if foreign is not None and foreign.cell == own.cell:
        return _by_platform(situation, foreign)
    return _unknown(situation, foreign)


def _answer(
    own: Observation,
    symptom: Symptom,
    cause: Cause,
    reason: reasons.AttributionReason,
    missing: Iterable[MissingRun] = (),
) -> Attribution:
    return Attribution(
        cell=own.cell,
        platform=own.platform,
        case=own.case,
        symptoms=(symptom,),
        answer=cause,
        reason=reason,
        missing=tuple(missing),
    )


def _extensions(situation: SymptomContext) -> ExtensionDifference | None:
    """Return the extensions that are the cause, or that may be it as well as a release alone."""
    around, symptom, axes = situation.around, situation.symptom, situation.axes

    def counts(found: ExtensionDifference) -> bool:
        flags = flag_changes(around, symptom, found.axis.nearest_clean)
        is_named = found.shown_by is reasons.ExtensionEvidence.NAMED
        return is_named or not flags or not flags[0].decides

    differences = [
        found
        for found in extension_differences(
            symptom, around, axes, situation.clean_pythons, situation.features
        )
        if counts(found)
    ]
    decided = next((found for found in differences if found.shown_by is not None), None)
    if decided is not None:
        return decided
    changing = [axis.along for axis in axes if axis.changes]
    return next((found for found in differences if changing == [found.axis.along]), None)


def _by_extensions(situation: SymptomContext, found: ExtensionDifference) -> Attribution:
    """Return that it is the pair, or unknown, for extensions do not link in it."""
    own, symptom, planner = situation.own, situation.symptom, situation.planner
    axis, shown_by = found.axis, found.shown_by
    change = _change(situation, axis)
    if axis.intermittent:
        shows = tuple(map(axis.release, found.shows))
        change = replace(change, shows=shows, since=None, until=None)
    also: tuple[reasons.Confounder, ...] = ()
    if shown_by is not reasons.ExtensionEvidence.NAMED:  # what a failure names needs no more
        also = _confounders_along(situation, axis)
    reason = reasons.ExtensionDiffers(
        extensions=found.extensions,
        change=change,
        lacks=tuple(map(axis.release, found.lacks)),
        links=tuple(map(axis.release, found.links)),
        shown_by=shown_by,
        confounders=also,
    )
    names = tuple(dict.fromkeys(run.cell.name for run in (*axis.clean, *found.shows)))
    older = planner.repeat_older(own, axis.nearest_clean, also)
    if shown_by is None:
        clean = axis.nearest_clean
        flags = flag_changes(situation.around, symptom, clean)
        missing = planner.extension(own, axis.along, found.extensions, situation.features)
        missing += planner.with_flags(situation.around, symptom, clean, flags)
        return replace(
            _answer(own, symptom, Cause.UNKNOWN, reason, missing + older),
            flags=flags,
            defaults=_changed_defaults(own, axis),
            rests_on=names,
        )
    return replace(
        _answer(own, symptom, Cause.PAIR, reason, older),
        after=None if change.since is None else change.since.low,
        since=None if change.since is None else change.since.high,
        until=None if change.until is None else change.until.high,
        rests_on=names,
    )


def _by_axes(situation: SymptomContext) -> Attribution:
    """Return the answer of the axis that changes, or of both."""
    own, symptom, planner = situation.own, situation.symptom, situation.planner
    torch, vllm = situation.axes
    axis, other = (torch, vllm) if torch.changes else (vllm, torch)
    clean = axis.nearest_clean
    flags = flag_changes(situation.around, symptom, clean)
    found = _confounders_along(situation, axis)
    pythons = _pythons(situation.clean_pythons)
    missing = planner.halving(own, axis)
    reason: reasons.AttributionReason
    if other.changes:
        cause = Cause.PAIR
        reason = reasons.BothAxesChange(
            torch=_change(situation, torch),
            vllm=_change(situation, vllm),
            clean_pythons=pythons,
            confounders=found,
        )
    else:
        cause = Cause.TORCH if axis is torch else Cause.VLLM
        reason = reasons.AxisChanges(
            change=_change(situation, axis),
            also_shown=None if other.intermittent else _also_shown(own, other),
            clean_pythons=pythons,
            confounders=found,
        )
        if len(other.shows) == 1:
            missing += planner.nearest_untried(own, other.along)
    missing += planner.with_flags(situation.around, symptom, clean, flags)
    missing += planner.repeat_older(own, clean, found)
    before, after = axis.before, axis.after
    return replace(
        _answer(own, symptom, cause, reason, missing),
        after=None if before is None else axis.release(before),
        since=None if before is None else axis.release(axis.shows[0]),
        until=None if after is None else axis.release(after),
        flags=flags,
        defaults=_changed_defaults(own, axis),
        rests_on=tuple(dict.fromkeys(run.cell.name for run in (*axis.clean, *axis.shows))),
    )


def _changed_defaults(own: Observation, axis: Axis) -> tuple[DefaultChange, ...]:
    """Return the defaults that torch changed where the symptom came, as far as both runs know."""
    if axis.along is not reasons.Along.TORCH:
        return ()
    clean, shows = axis.nearest_clean, own
    if axis.before is not None:
        clean, shows = axis.before, axis.shows[0]
    compared = compare_defaults(clean.defaults, shows.defaults)
    return () if compared is None else compared.changed


def _confounders_along(situation: SymptomContext, axis: Axis) -> tuple[reasons.Confounder, ...]:
    """Return what else differs along an axis; another vLLM brings other packages as a rule."""
    own, clean = situation.own, axis.nearest_clean
    if (own.tests, own.environment) == (clean.tests, clean.environment):
        return ()
    runs = situation.around.runs_by_state(situation.symptom, axis.along)
    return confounders(
        own,
        clean,
        all_shows=runs[State.SHOWS],
        all_clean=runs[State.CLEAN],
        ignore=None if axis.along is reasons.Along.TORCH else reasons.ConfounderKind.PACKAGES,
    )


def _change(situation: SymptomContext, axis: Axis) -> reasons.AxisChange:
    """Return where the symptom comes and goes along an axis."""
    moving = (
        situation.releases.torch if axis.along is reasons.Along.TORCH else situation.releases.vllm
    )
    known = [release.version for release in moving]
    first, last = axis.release(axis.shows[0]), axis.release(axis.shows[-1])
    before, after = axis.before, axis.after
    return reasons.AxisChange(
        along=axis.along,
        clean=tuple(map(axis.release, axis.clean)),
        shows=tuple(map(axis.release, axis.shows)),
        counted=situation.symptom.counted(axis.nearest_clean),
        since=None if before is None else boundary(known, axis.release(before), first),
        until=None if after is None else boundary(known, last, axis.release(after)),
    )


def boundary(known: Sequence[str], low: str, high: str) -> reasons.Boundary:
    """Return where something changes that is not yet so at `low` and is at `high`.

    The change is at a minor release if all `known` releases between the two are of that one: its
    first run represents it, whatever the patch.

    >>> boundary(["2.9.1", "2.10.0", "2.11.0"], "2.9.1", "2.11.0").precision.value
    'range'
    """
    below, above = parse_version(low), parse_version(high)
    inner = [release for release in known if below < parse_version(release) < above]
    minor = minor_of(high)
    if all(minor_of(release) == minor for release in inner) and minor_of(low) != minor:
        precision = reasons.Precision.MINOR
    else:
        precision = reasons.Precision.RANGE if inner else reasons.Precision.RELEASE
    return reasons.Boundary(low=low, high=high, precision=precision)


def _also_shown(own: Observation, axis: Axis) -> reasons.ShownAlong | None:
    """Return the neighbours along an axis that show the symptom too, None without any."""
    others = tuple(axis.release(run) for run in axis.shows if run.cell != own.cell)
    return reasons.ShownAlong(along=axis.along, releases=others) if others else None


def _pythons(runs: Iterable[Observation]) -> tuple[str, ...]:
    return tuple(run.cell.python for run in runs)


def _by_python(situation: SymptomContext) -> Attribution:
    """Return that it is the environment: the same pair is clean on other Pythons."""
    own, clean = situation.own, situation.clean_pythons
    # Another Python brings other packages as a rule.
    found = confounders(
        own, clean[0], all_shows=[own], all_clean=clean, ignore=reasons.ConfounderKind.PACKAGES
    )
    reason = reasons.OtherPythonClean(clean_pythons=_pythons(clean), confounders=found)
    missing = situation.planner.repeat_older(own, clean[0], found)
    return _answer(own, situation.symptom, Cause.ENVIRONMENT, reason, missing)


def _by_platform(situation: SymptomContext, clean: Observation) -> Attribution:
    """Return that it is the environment: the same cell is clean on another platform."""
    own, symptom = situation.own, situation.symptom
    # Another platform is another machine as a rule.
    found = confounders(
        own, clean, all_shows=[own], all_clean=[clean], ignore=reasons.ConfounderKind.MACHINE
    )
    reason = reasons.OtherPlatformClean(
        platform=clean.platform, counted=symptom.counted(clean), confounders=found
    )
    missing = situation.planner.repeat_older(own, clean, found)
    return _answer(own, symptom, Cause.ENVIRONMENT, reason, missing)


def _unknown(situation: SymptomContext, foreign: Observation | None) -> Attribution:
    """Return that nothing decides, and which runs would.

    `foreign` is a clean run of the same pair on another platform, and on another Python.
    """
    own, symptom, planner = situation.own, situation.symptom, situation.planner
    reason: reasons.AttributionReason
    intermittent = next((axis for axis in situation.axes if axis.intermittent), None)
    if intermittent is not None:
        reason = reasons.Intermittent(along=intermittent.along)
        missing = planner.repeat_minor(own) or planner.other_platforms(own)
        return _answer(own, symptom, Cause.UNKNOWN, reason, missing)
    clean = situation.around.clean_on_other_python(symptom) or foreign
    apart = situation.around.clean_but_apart(symptom)
    missing = [run for differs, other in apart for run in planner.stock(own, other, differs)]
    if apart:
        reason = _stock_and(own, symptom, *apart[0])
    elif clean is not None:
        differs = _difference(own, clean)
        reason = reasons.PythonAndAnotherDiffer(
            differs=differs,
            platform=clean.platform,
            python=clean.cell.python,
            torch=clean.cell.torch,
            vllm=clean.cell.vllm,
            counted=symptom.counted(clean),
        )
        missing += planner.one_difference(own, clean, differs)
    else:
        shown = (_also_shown(own, axis) for axis in situation.axes)
        reason = reasons.NoCleanNeighbour(
            also_shown=tuple(found for found in shown if found is not None)
        )
    names = {run.name for run in missing}
    along_tried = {str(differs) for differs, _ in apart if own.is_stock}
    for axis in situation.axes:
        if str(axis.along) not in along_tried:
            nearest = planner.nearest_untried(own, axis.along)
            missing += [run for run in nearest if run.name not in names]
    missing = list(dict.fromkeys(missing))
    return _answer(own, symptom, Cause.UNKNOWN, reason, missing or planner.other_platforms(own))


def _stock_and(
    own: Observation, symptom: Symptom, differs: reasons.RunDifference | None, clean: Observation
) -> reasons.StockAndAnotherDiffer:
    """Return that a clean run would decide if not only one of it and the cell's were stock."""
    return reasons.StockAndAnotherDiffer(
        differs=differs,
        own=not own.is_stock,
        not_stock=own.not_stock or clean.not_stock,
        platform=clean.platform,
        python=clean.cell.python,
        torch=clean.cell.torch,
        vllm=clean.cell.vllm,
        counted=symptom.counted(clean),
    )


def _difference(own: Observation, clean: Observation) -> reasons.RunDifference:
    """Return in what a clean run of another Python differs, too."""
    if clean.platform != own.platform:
        return reasons.RunDifference.PLATFORM
    return (
        reasons.RunDifference.TORCH
        if clean.cell.torch != own.cell.torch
        else reasons.RunDifference.VLLM
    )
