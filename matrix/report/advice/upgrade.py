"""The changes of an upgrade, as text for people and as JSON for programs."""

from __future__ import annotations

import json

from matrix._util.text import aligned, clean, listed, plural, seconds
from matrix.advice.evidence import CaseStarts, MeasuredRun
from matrix.advice.left_behind import LeftBehind, LeftKind
from matrix.advice.upgrade import Change, KnownPackages, Upgrade, UpgradeSide, What
from matrix.advice.wish import Wish
from matrix.record.start_seconds import Unlike
from matrix.report import marks, notes
from matrix.report.advice import words
from matrix.report.advice.recommend import measured_values
from matrix.report.coded import operand
from matrix.report.reasons import NO_ISSUE
from matrix.report.timings import FAILED_STEP
from matrix.report.uv_commands import new_environment, pip_uninstall
from matrix.verdict.states import Verdict

_UNREAD = {What.GLIBC, What.GPU_CODE, What.GPU_CODE_OF_TORCH}
_CACHES = (
    "No compile cache of vLLM {old} serves {new}: the first start of each replica is cold, so fill"
    " a shared cache before the fleet starts."
)


def lines(found: Upgrade) -> str:
    """Return what changes as text."""
    old, new = found.old.vllm.version, found.new.vllm.version
    head = (
        f"{_what(found)} of vLLM {old} to {new}, wheels for {found.machine}, Python {found.python}"
    )
    text = [verdict(found), head, "", *_changes(found), "", *_left(found)]
    text += ["", *_starts(found), "", _CACHES.format(old=old, new=new)]
    return "\n".join([*text, *_notes(found)]) + "\n"


def _what(found: Upgrade) -> str:
    return "downgrade" if found.is_downgrade else "upgrade"


def verdict(found: Upgrade) -> str:
    """Return whether the new pair works, and what shows it, in one sentence."""
    new = found.new
    pair = f"vLLM {new.vllm.version} with torch {new.torch.version}"
    python = "" if new.fits_python else f" on Python {found.install.python}"
    if new.fails is not None:
        known = f"; a run on Python {listed(new.works_on)} does not" if new.works_on else ""
        where = f", not on Python {found.install.python}" if new.works_on else ""
        return f"no{where}: {pair}: {words.why(new.fails)}{known}"
    if new.measured is None:
        shown = ""
        if new.evidence is not None:
            shown = words.evidence_words(new.evidence, found.install.python, Wish())
        rest = f"; {shown}" if shown else ""
        return f"not known: {pair} never ran on a GPU{python and f'; take{python[3:]}'}{rest}"
    # The run on the nearest Python before a newer one on another, which may have failed.
    best = (new.evidence and new.evidence.measured) or new.measured
    ran = words.measured_words(best, found.install.python)
    return f"yes, in a new environment{python}: {pair} ran on {ran}"


def _changes(found: Upgrade) -> list[str]:
    rows = [["", found.old.vllm.version, found.new.vllm.version]]
    rows += [
        [change.package or change.what, _value(change, change.old), _value(change, change.new)]
        for change in found.changes
    ]
    same = [change.package or str(change.what) for change in found.every if not change.is_one]
    text = aligned(rows)
    if same:
        text.append(f"the same: {', '.join(same)}")
    text += [
        f"vLLM {side.vllm.version} is not for Python {found.python}"
        for side in (found.old, found.new)
        if not side.fits_python
    ]
    return text


def _value(change: Change, value: str | None) -> str:
    if value is None:
        return words.NOT_READ if change.what in _UNREAD else words.UNKNOWN
    return value


def _left(found: Upgrade) -> list[str]:
    """Return what an upgrade in place leaves behind, and what to remove before it."""
    known = [_known(side) for side in (found.old, found.new) if side.packages != KnownPackages.ALL]
    made = [f"    {line}" for line in new_environment(found.install)]
    made += words.addition_words(found.install)
    what, article = _what(found), "A" if found.is_downgrade else "An"
    if not found.left:
        none = f"{article} {what} in place leaves no known package behind. A new environment:"
        return [none, *made, *known]
    kinds = {kind: [package for package in found.left if package.kind is kind] for kind in LeftKind}
    why = {
        LeftKind.OTHER_CUDA: f"for another CUDA than torch {found.new.torch.version}",
        LeftKind.OTHER_VERSION: "with another version than flashinfer-python, which rejects it",
        LeftKind.BY_HAND: "rejected by that flashinfer-python too, if you installed it",
        LeftKind.UNUSED: "vLLM no longer requires it",
    }
    text = [f"{article.lower()} {what} in place leaves behind:"]
    for kind, packages in kinds.items():
        if packages:
            text.append(f"  {', '.join(map(_package, packages))}: {why[kind]}")
    shared = [package for package in found.left if package.shares]
    if shared:
        pairs = ", ".join(f"{package.name} and {package.shares}" for package in shared)
        text.append(
            f"  in one folder, so that removing the first later takes files of the second: {pairs}"
        )
    text += known
    text += [
        "",
        "Make a new environment:",
        *made,
    ]
    if not found.is_in_place:
        return text
    text.append(f"or, in the old environment, before the {what} in place:")
    removed = [package.name for package in found.left if package.kind is not LeftKind.UNUSED]
    names = removed or [package.name for package in found.left]
    return [*text, f"    {pip_uninstall(names)}"]


def _known(side: UpgradeSide) -> str:
    """Return which packages of a release are not known, and what shows them."""
    text = f"packages of vLLM {side.vllm.version}: {words.UNKNOWN} beyond what it requires itself"
    if side.packages == KnownPackages.SOME:
        return f"{text} and a few that were resolved (no run); a run of the pair shows all"
    return f"{text} (no run, no resolution); a run of the pair shows all"


def _package(package: LeftBehind) -> str:
    return f"{package.name} {package.version}" if package.version else package.name


def _starts(found: Upgrade) -> list[str]:
    """Return how each case starts with both, in seconds, and which compile again warm.

    Without the seconds where those of the two runs do not compare.
    """
    old, new = found.old, found.new
    sides = old.measured, new.measured
    heads = [_ran(side) for side in (old, new)]
    if not any(sides):
        return ["starts:", *heads]
    if found.unlike:
        warm = [
            f"  vLLM {side.vllm.version}, warm: {words.warm_words(side.measured.cases)}"
            for side in (old, new)
            if side.measured
        ]
        return ["starts:", *heads, *warm, f"  {_unlike(found)}"]
    names = sorted({case.case for side in sides if side for case in side.cases})
    rows = [["", f"vLLM {old.vllm.version}", f"vLLM {new.vllm.version}"]]
    rows += [[words.case_words(name), *(_start(side, name) for side in sides)] for name in names]
    return ["starts, cold and warm in seconds:", *heads, *aligned(rows)]


def _unlike(found: Upgrade) -> str:
    """Return why the seconds of the two runs do not compare, in one sentence."""
    old, new = found.old.ran, found.new.ran
    assert old is not None and new is not None  # else nothing is unlike
    why = {
        Unlike.JOBS: f"that of vLLM {found.old.vllm.version} ran {plural(old.jobs, 'case')} at a"
        f" time, that of {found.new.vllm.version} {new.jobs}",
        Unlike.TESTS: "the startup tests of the two take different times",
        Unlike.MACHINE: "the GPU or the processor is another",
        Unlike.STEPS: FAILED_STEP,
    }
    reasons = [text for code, text in why.items() if code in found.unlike]
    return f"The seconds of the two runs do not compare: {'; '.join(reasons)}."


def _ran(side: UpgradeSide) -> str:
    name = f"vLLM {side.vllm.version} with torch {side.torch.version}"
    found = side.measured
    if found is None:
        return f"  {name}: no run on a GPU is known"
    return f"  {name}: {words.run_words(found)} ({clean(found.record)})"


def _start(measured: MeasuredRun | None, name: str) -> str:
    case = None if measured is None else measured.of_case(name)
    return "-" if case is None else _case(case)


def _case(case: CaseStarts) -> str:
    if case.verdict is Verdict.INCOMPATIBLE:
        return "fails"
    text = f"{seconds(case.cold)} {seconds(case.warm)}"
    if case.recompiles is not None:
        issues = ", ".join(map(marks.issue_name, case.recompiles.issues)) or NO_ISSUE
        text += f", recompiles warm ({issues})"
    return f"{text}, drifts" if case.verdict is Verdict.DRIFT else text


def _notes(found: Upgrade) -> list[str]:
    """Return the known issues of both releases."""
    text = []
    for name, side in (("left", found.old), ("new", found.new)):
        for note in side.notes:
            other = found.new if name == "left" else found.old
            if name == "new" or note not in other.notes:
                head = (
                    "known issue" if name == "new" else f"known issue of vLLM {side.vllm.version}"
                )
                text += ["", f"{head}: {' '.join(note.text.split())}"]
                text.append(f"  evidence: {', '.join(note.evidence)}")
    return text


def content(found: Upgrade) -> str:
    """Return what changes as JSON; null is what nobody knows."""
    values = {
        "schema": 1,
        "from": _side(found.old),
        "to": _side(found.new),
        "python": found.python,
        "machine": found.machine,
        "known": found.new.known,
        "text": verdict(found),
        "is_downgrade": found.is_downgrade,
        "seconds_compare": None
        if found.old.ran is None or found.new.ran is None
        else not found.unlike,
        "seconds_differ_by": sorted(found.unlike),
        "changes": [
            {
                "what": change.what.name.lower(),
                "package": change.package,
                "from": change.old,
                "to": change.new,
                "differs": change.is_one,
            }
            for change in found.every
        ],
        "left_behind": [
            {
                "package": package.name,
                "version": package.version,
                "kind": package.kind.name.lower(),
                "shares_folder_with": package.shares,
            }
            for package in found.left
        ],
        "install": operand(found.install),
        "commands": new_environment(found.install),
    }
    return json.dumps(values, indent=1) + "\n"


def _side(side: UpgradeSide) -> dict[str, object]:
    return {
        "vllm": side.vllm.version,
        "torch": side.torch.version,
        "fits_python": side.fits_python,
        "packages_known": side.packages,
        "measured": measured_values(side.measured),
        "notes": notes.content(side.notes),
    }
