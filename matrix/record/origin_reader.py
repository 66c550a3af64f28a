"""Read where the torch and the vLLM of a record are from. Importable inside a cell."""

from dataclasses import fields
from typing import TypeGuard

from matrix.catalog.cells import PROJECTS, Build, CellError, Made, candidate_project
from matrix.record.json_value import JsonValue
from matrix.record.model import LEFT_OUT
from matrix.record.origin import Origin

_KEYS = dict.fromkeys(field.name for field in fields(Origin))
_TEXTS = tuple(key for key in _KEYS if key not in ("project", "candidate", "made", "extensions"))
_BUILD_KEYS = dict.fromkeys(field.name for field in fields(Build))


def read_origins(value: JsonValue) -> tuple[Origin, ...]:
    """Return the origins of a record; raises RecordError for two of one project and for others."""
    origins: dict[str, Origin] = {}
    for item in value.items("origins"):
        origin = _origin(item)
        if origin.project in origins:
            item.fail(f"is the second origin of {origin.project}")
        origins[origin.project] = origin
    return tuple(origins.values())


def _origin(value: JsonValue) -> Origin:
    value.has_keys(_KEYS, LEFT_OUT)
    project = value.fitting("project", _is_project, f"one of {', '.join(PROJECTS)}")
    build = value.member("candidate")
    return Origin(
        project=project,
        candidate=None if build.data is None else _build(build, project),
        made=value.one_of("made", Made) if "made" in value.data else None,
        extensions=value.text("extensions") if "extensions" in value.data else None,
        **{key: value.text_or_none(key) for key in _TEXTS},
    )


def _build(value: JsonValue, project: str) -> Build:
    value.has_keys(_BUILD_KEYS)
    try:
        build = Build(name=value.text("name"), identity=value.text("identity"))
    except CellError as error:
        value.fail(f"is not a build ({error})")
    if candidate_project(build.name) != project:
        value.fail(f"is not a candidate of {project}")
    return build


def _is_project(value: object) -> TypeGuard[str]:
    return value in PROJECTS
