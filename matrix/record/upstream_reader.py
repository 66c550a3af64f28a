"""Read what upstream's own tests did in a run. Importable inside a cell."""

from dataclasses import fields

from matrix.record.case_reader import cases_of, clipped, failure_of, name_of
from matrix.record.json_value import JsonValue, is_text
from matrix.record.upstream import SuiteCase, UpstreamOutcome, UpstreamSuite

_KEYS = dict.fromkeys(field.name for field in fields(UpstreamSuite))
_CASE_KEYS = dict.fromkeys(field.name for field in fields(SuiteCase))


def read_upstream_suite(value: JsonValue) -> UpstreamSuite:
    """Return the suite; raises RecordError for two cases of one name and for what is not one."""
    value.has_keys(_KEYS)
    return UpstreamSuite(
        sdist=value.text_or_none("sdist"),
        sha256=value.text_or_none("sha256"),
        files=value.values("files", is_text, "a string"),
        stand_ins=tuple(name.whole_text() for name in value.items("stand_ins")),
        cases=cases_of(value, "cases", _case),
    )


def _case(value: JsonValue) -> SuiteCase:
    value.has_keys(_CASE_KEYS)
    return SuiteCase(
        case=name_of(value),
        outcome=value.one_of("outcome", UpstreamOutcome),
        reason=clipped(value, "reason"),
        signature=clipped(value, "signature"),
        seconds=value.seconds("seconds"),
        failure=failure_of(value),
    )
