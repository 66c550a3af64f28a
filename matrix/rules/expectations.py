"""What a start should count: rules with version specifiers, and the most specific one wins.

Pure but for reading the file, and importable inside a cell. Versions are compared by their base
version, so a release candidate ``2.12.0rc1+cu128`` is judged as 2.12.0.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

from packaging.version import InvalidVersion, Version

from matrix._util.paths import DATA
from matrix._util.versions import VersionRange, VersionRangeError, parse_version
from matrix.errors import MatrixError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "COUNTERS",
    "UPSTREAM",
    "Difference",
    "Expectations",
    "ExpectationsError",
    "Expected",
    "Published",
    "Rule",
    "Situation",
    "compare",
    "load_expectations",
    "parse_expectations",
]

COUNTERS = frozenset(
    {
        # vLLM's CompilationCounter, over the releases of the matrix
        "num_models_seen",
        "num_graphs_seen",
        "num_piecewise_graphs_seen",
        "num_piecewise_capturable_graphs_seen",
        "num_backend_compilations",
        "num_gpu_runner_capture_triggers",
        "num_cudagraph_captured",
        "num_inductor_compiles",
        "num_eager_compiles",
        "num_cache_entries_updated",
        "num_compiled_artifacts_saved",
        "num_compiled_artifacts_loaded",
        "num_aot_compiles",
        "num_aot_artifacts_saved",
        "num_aot_artifacts_loaded",
        "stock_torch_compile_count",
        # torch._dynamo.utils.counters
        "aot_autograd.total",
        "aot_autograd.ok",
        "aot_autograd.not_ok",
        "aot_autograd.autograd_cache_hit",
        "aot_autograd.autograd_cache_miss",
        "aot_autograd.autograd_cache_bypass",
        "aot_autograd.autograd_cache_guard_miss",
        "aot_autograd.autograd_cache_saved",
        "inductor.fxgraph_cache_hit",
        "inductor.fxgraph_cache_miss",
        "inductor.fxgraph_cache_bypass",
        "inductor.fxgraph_cache_pickle_error",
        "inductor.fxgraph_cache_write_error",
    }
)
"""Every counter that a rule may expect: vLLM's, and torch's with their group before a dot."""

UPSTREAM = re.compile(r"https://github\.com/(vllm-project|pytorch)/[\w.-]+/[\w./#=-]+", re.ASCII)
"""A link into one of the two projects, which is all that may stand for what upstream says."""

_DATA = DATA / "expectations.toml"
_STARTS = ("cold", "warm")
_PLATFORMS = ("cpu", "cuda")
_KEYS = (
    "id",
    "case",
    "platform",
    "torch",
    "vllm",
    "flags",
    "start",
    "counters",
    "evidence",
    "upstream",
)
_CASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\[.+\])?")


class ExpectationsError(MatrixError):
    """A rule, or a set of rules, that cannot be judged by."""


@dataclass(frozen=True)
class Situation:
    """Where a start was observed: the case, the platform, full versions, the effective flags."""

    case: str
    platform: str
    torch: str
    vllm: str
    flags: Mapping[str, object]


@dataclass(frozen=True)
class Expected:
    """What one counter should be, by which rule, on what evidence."""

    value: int
    rule: str
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """A counter that is not as expected; ``observed`` is None where it was not counted at all."""

    start: str
    counter: str
    expected: int
    observed: int | None
    rule: str


@dataclass(frozen=True)
class Published:
    """What upstream publishes of a start where we measured something else, and where it does."""

    counters: Mapping[str, int]
    link: str


@dataclass(frozen=True)
class Rule:
    """One rule of the file: conditions (None is any), the counters expected, and the evidence.

    ``counters`` is what was measured; ``upstream`` holds those of them that upstream publishes
    with another number, and None where the two agree or upstream says nothing.
    """

    id: str
    start: str
    counters: Mapping[str, int]
    evidence: tuple[str, ...]
    case: str | None = None
    platform: str | None = None
    torch: VersionRange = field(default_factory=VersionRange)
    vllm: VersionRange = field(default_factory=VersionRange)
    flags: Mapping[str, object] = field(default_factory=dict)
    upstream: Published | None = None

    @property
    def records(self) -> tuple[str, ...]:
        """The records among the evidence."""
        return tuple(item for item in self.evidence if "://" not in item)

    def implies(self, other: Rule) -> bool:
        """Tell whether every situation and start that this rule matches, the other matches too."""
        return (
            self.start == other.start
            and (other.case is None or _case_within(self.case, other.case))
            and (other.platform is None or self.platform == other.platform)
            and other.flags.items() <= self.flags.items()
            and self.torch.implies(other.torch)
            and self.vllm.implies(other.vllm)
        )

    def more_specific(self, other: Rule) -> bool:
        """Tell whether this rule wins over the other one where both match."""
        return self.implies(other) and not other.implies(self)


@dataclass(frozen=True)
class Expectations:
    """Rules without a tie: in any situation, one of them is the most specific for a counter.

    Raises ExpectationsError, naming both rules and a situation, where two of them tie.
    """

    rules: tuple[Rule, ...]
    name: str = "expectations"
    _asked: dict[tuple[str, str], Sequence[Rule]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Refuse two rules of one id, and two that tie."""
        seen: set[str] = set()
        for rule in self.rules:
            if rule.id in seen:
                raise ExpectationsError(
                    f"{self.name}: rule {rule.id!r}: id: is there twice; give each rule its own"
                )
            seen.add(rule.id)
        for one, other in combinations(self.rules, 2):
            if one.start == other.start and not one.counters.keys().isdisjoint(other.counters):
                _check_tie(one, other, self.name)

    def _of(self, case: str, start: str) -> Sequence[Rule]:
        """The rules for this start of this case, in the order of the file."""
        if (case, start) not in self._asked:
            cases = (None, case, case.partition("[")[0])
            self._asked[case, start] = [
                rule for rule in self.rules if rule.start == start and rule.case in cases
            ]
        return self._asked[case, start]

    def expect(self, situation: Situation, start: str) -> Mapping[str, Expected]:
        """Choose what each counter should be in this start; empty where no rule matches.

        Raises ExpectationsError where the situation's torch or vLLM is no version.
        """
        torch = _situation_version("torch", situation.torch)
        vllm = _situation_version("vllm", situation.vllm)
        best: dict[str, Rule] = {}
        for rule in self._of(situation.case, start):
            if (
                rule.platform in (None, situation.platform)
                and rule.flags.items() <= situation.flags.items()
                and rule.torch.contains(torch)
                and rule.vllm.contains(vllm)
            ):
                for counter in rule.counters:
                    if counter not in best or rule.more_specific(best[counter]):
                        best[counter] = rule
        return {
            counter: Expected(rule.counters[counter], rule.id, rule.evidence)
            for counter, rule in sorted(best.items())
        }


def load_expectations(path: Path | None = None) -> Expectations:
    """Read the rules of a file, by default those of the package.

    Raises ExpectationsError, which names the file, the rule, the key and the mend.
    """
    path = path or _DATA
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ExpectationsError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ExpectationsError(f"{path}: is not UTF-8; save it as UTF-8") from error
    return parse_expectations(text, str(path))


def parse_expectations(text: str, name: str) -> Expectations:
    """Read rules from the text of a TOML file; ``name`` stands for the file in errors.

    Raises ExpectationsError as ``load_expectations`` does.
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ExpectationsError(f"{name}: is not TOML ({error}); mend it there") from error
    for key in data:
        if key != "rule":
            raise ExpectationsError(f"{name}: {key}: unknown key; each rule begins with [[rule]]")
    rows = data.get("rule", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ExpectationsError(f"{name}: rule: is not a list; begin each rule with [[rule]]")
    return Expectations(tuple(_rule(row, n, name) for n, row in enumerate(rows, 1)), name)


def compare(
    expected: Mapping[str, Expected], observed: Mapping[str, int], start: str
) -> tuple[Difference, ...]:
    """List the counters that are not as expected, sorted by name.

    A counter that no rule expects makes no difference, whatever it is.
    """
    return tuple(
        Difference(start, counter, wanted.value, observed.get(counter), wanted.rule)
        for counter, wanted in sorted(expected.items())
        if observed.get(counter) != wanted.value
    )


def _rule(row: Mapping[str, object], number: int, name: str) -> Rule:
    rule_id = row.get("id")
    if rule_id is None:
        raise ExpectationsError(f"{name}: rule {number}: id: is missing; name the rule")
    if not isinstance(rule_id, str) or not rule_id.strip():
        raise ExpectationsError(f"{name}: rule {number}: id: {rule_id!r} is not a name; quote one")
    where = f"{name}: rule {rule_id!r}"
    for key in row:
        if key not in _KEYS:
            mend = _suggest(key, _KEYS) or f"the known ones are {', '.join(_KEYS)}"
            raise ExpectationsError(f"{where}: {key}: unknown key; {mend}")
    for key in ("start", "counters", "evidence"):
        if key not in row:
            raise ExpectationsError(f"{where}: {key}: is missing; add it")
    start = _choice(row["start"], _STARTS, f"{where}: start")
    platform = row.get("platform")
    if platform is not None:
        platform = _choice(platform, _PLATFORMS, f"{where}: platform")
    case = row.get("case")
    if case is not None and not (isinstance(case, str) and _CASE.fullmatch(case)):
        raise ExpectationsError(
            f"{where}: case: {case!r} is not a case; write moe_startup or moe_startup[mega_aot=1]"
        )
    rule = Rule(
        id=rule_id,
        start=start,
        counters=_counters(row["counters"], where),
        evidence=_evidence(row["evidence"], where),
        case=case,
        platform=platform,
        torch=_range(row, "torch", where),
        vllm=_range(row, "vllm", where),
        flags=_flags(row.get("flags", {}), where),
    )
    if "upstream" not in row:
        return rule
    return replace(rule, upstream=_published(row["upstream"], rule, f"{where}: upstream"))


def _published(value: object, rule: Rule, where: str) -> Published:
    if not isinstance(value, dict) or value.keys() != {"counters", "link"}:
        raise ExpectationsError(f'{where}: write {{ counters = {{ ... }}, link = "https://..." }}')
    link = value["link"]
    if not isinstance(link, str) or not UPSTREAM.fullmatch(link):
        raise ExpectationsError(
            f"{where}: link: {link!r} is no link to vllm-project or pytorch on GitHub; write "
            f"https://github.com/vllm-project/vllm/..."
        )
    counters = _counters(value["counters"], where)
    for counter, count in counters.items():
        if counter not in rule.counters:
            raise ExpectationsError(
                f"{where}: counters: {counter} is not among the rule's own; name what was measured"
            )
        if count == rule.counters[counter]:
            raise ExpectationsError(
                f"{where}: counters: {counter} = {count} is what the rule expects, too; leave it "
                f"out, and name the link as evidence"
            )
    if not rule.records:
        raise ExpectationsError(f"{where}: evidence names no record; name the one that measured")
    return Published(counters, link)


def _choice(value: object, choices: tuple[str, ...], where: str) -> str:
    if not isinstance(value, str) or value not in choices:
        quoted = " or ".join(f'"{choice}"' for choice in choices)
        raise ExpectationsError(f"{where}: {value!r} is unknown; write {quoted}")
    return value


def _range(row: Mapping[str, object], key: str, where: str) -> VersionRange:
    if key not in row:
        return VersionRange()
    value = row[key]
    if not isinstance(value, str):
        raise ExpectationsError(f'{where}: {key}: {value!r} is not a string; write ">=2.10"')
    try:
        return VersionRange(value)
    except VersionRangeError as error:
        raise ExpectationsError(f"{where}: {key}: {error}") from error


def _flags(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ExpectationsError(f"{where}: flags: is not a table; write {{ NAME = true }}")
    for flag, wanted in value.items():
        if not isinstance(wanted, (bool, int, str)):
            raise ExpectationsError(
                f"{where}: flags: {flag} = {wanted!r} cannot be compared; write true, false, a "
                f"whole number or a string"
            )
    return value


def _counters(value: object, where: str) -> Mapping[str, int]:
    if not isinstance(value, dict) or not value:
        raise ExpectationsError(
            f"{where}: counters: names no counter; write {{ num_compiled_artifacts_saved = 3 }}"
        )
    for counter, count in value.items():
        if isinstance(count, dict):
            dotted = f"{counter}.{next(iter(count), 'total')}"
            raise ExpectationsError(
                f'{where}: counters: {counter} is a table; quote the whole name, "{dotted}"'
            )
        if counter not in COUNTERS:
            mend = _suggest(counter, sorted(COUNTERS)) or "see COUNTERS in expectations.py"
            raise ExpectationsError(f"{where}: counters: unknown counter {counter!r}; {mend}")
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise ExpectationsError(
                f"{where}: counters: {counter} = {count!r} is not a count; write a whole number "
                f"from 0"
            )
    return value


def _evidence(value: object, where: str) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(item, str) and item.strip() for item in value)
    ):
        raise ExpectationsError(
            f"{where}: evidence: is not a list of records or links; name at least one"
        )
    return tuple(value)


def _suggest(word: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def _situation_version(key: str, text: str) -> Version:
    try:
        return parse_version(text)
    except (InvalidVersion, TypeError) as error:
        raise ExpectationsError(f"situation: {key} {text!r} is not a version") from error


def _case_within(case: str | None, condition: str) -> bool:
    """A bare name stands for each of its parameters; a name with a parameter for itself."""
    return case is not None and (case == condition or case.partition("[")[0] == condition)


def _check_tie(one: Rule, other: Rule, name: str) -> None:
    both = sorted(one.counters.keys() & other.counters.keys())
    if (one.platform and other.platform and one.platform != other.platform) or any(
        one.flags[key] != other.flags[key] for key in one.flags.keys() & other.flags.keys()
    ):
        return
    case = one.case or other.case
    if one.case is not None and other.case is not None:
        if _case_within(one.case, other.case):
            case = one.case
        elif _case_within(other.case, one.case):
            case = other.case
        else:
            return
    torch, vllm = one.torch.shared(other.torch), one.vllm.shared(other.vllm)
    if torch is None or vllm is None or one.more_specific(other) or other.more_specific(one):
        return
    flags = {**one.flags, **other.flags}
    told = "".join(f", {key}={flags[key]!r}" for key in sorted(flags))
    raise ExpectationsError(
        f"{name}: rules {one.id!r} and {other.id!r} tie on {both[0]}: both match the {one.start} "
        f"start of {case or 'any case'} on {one.platform or other.platform or 'any platform'} with "
        f"torch {torch} and vLLM {vllm}{told}, and neither is more specific; narrow one of them"
    )
