"""Read what upstream's own tests did in a run. Importable inside a cell."""

from dataclasses import fields

from matrix._util.text import clip
from matrix.record.json_value import SHOWN, JsonValue, is_text
from matrix.record.model import FAILURE_LIMIT, REASON_LIMIT
from matrix.record.upstream import SuiteCase, UpstreamOutcome, UpstreamSuite

_KEYS = dict.fromkeys(field.name for field in fields(UpstreamSuite))
_CASE_KEYS = dict.fromkeys(field.name for field in fields(SuiteCase))


def read_upstream_suite(value: JsonValue) -> UpstreamSuite:
    """Return the suite; raises RecordError for two cases of one name and for what is not one."""
    value.has_keys(_KEYS)
    cases: dict[str, SuiteCase] = {}
    for item in value.items("cases"):
        case = _case(item)
        if case.case in cases:
            item.fail(f"is the second case of the name {case.case[:SHOWN]!r}")
        cases[case.case] = case
    return UpstreamSuite(
        sdist=value.text_or_none("sdist"),
        sha256=value.text_or_none("sha256"),
        files=value.values("files", is_text, "a string"),
        stand_ins=tuple(name.whole_text() for name in value.items("stand_ins")),
        cases=tuple(cases.values()),
    )


def _case(value: JsonValue) -> SuiteCase:
    value.has_keys(_CASE_KEYS)
    name = value.text("case")
    if not name:
        value.member("case").wrong("the name of a case")
    failure = value.text_or_none("failure")
    if failure is not None and len(failure) > FAILURE_LIMIT:
        value.member("failure").fail(
            f"has {len(failure)} characters, but at most {FAILURE_LIMIT} are kept, of its end"
        )
    return SuiteCase(
        case=name,
        outcome=value.one_of("outcome", UpstreamOutcome),
        reason=_clipped(value, "reason"),
        signature=_clipped(value, "signature"),
        seconds=value.seconds("seconds"),
        failure=failure,
    )


def _clipped(value: JsonValue, key: str) -> str | None:
    text = value.text_or_none(key)
    return text and clip(text, REASON_LIMIT)
