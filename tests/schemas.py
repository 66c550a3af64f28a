"""The schemas of `matrix/data`, each with those that it refers to."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from matrix._util.paths import DATA

SCHEMAS = {path.name: json.loads(path.read_text("utf-8")) for path in DATA.glob("*.schema.json")}
_REGISTRY = Registry().with_resources(
    (name, Resource.from_contents(schema)) for name, schema in SCHEMAS.items()
)


def validator(name: str) -> Draft202012Validator:
    """Return the validator of a schema, such as `show`."""
    return Draft202012Validator(SCHEMAS[f"{name}.schema.json"], registry=_REGISTRY)


def valid(name: str, text: str) -> Any:
    """Return the content of a JSON text, which obeys the schema of this name."""
    content = json.loads(text)
    validator(name).validate(content)
    return content
