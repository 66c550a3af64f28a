"""A JSON schema as Markdown: a table of fields for each object that the schema names.

Pure. It knows what the schemas of `matrix/data` use, and no more of JSON Schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

_MANY = 5
"""With more values than these commas, a row lists them with the meaning, where there is room."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of an object: its path from there, what it holds, and what it means."""

    path: str
    holds: str
    description: str
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class SchemaReader:
    """The fields of one schema; its name makes the anchors of its objects."""

    schema: Schema
    name: str

    @property
    def objects(self) -> dict[str, Schema]:
        """The objects that have tables of their own: those of `$defs` that have fields."""
        return {
            name: found for name, found in self.schema.get("$defs", {}).items() if _forms(found)
        }

    def fields(self, found: Schema, path: str = "") -> Iterator[Field]:
        """Give each field of an object and of the objects inside it, without those of `objects`."""
        inner = _fields_of(found)
        if inner is None:
            return
        needed = inner.get("required", ())
        for name, below in inner["properties"].items():
            yield from self._field(f"{path}{name}", below, required=name in needed)

    def _field(self, path: str, found: Schema, *, required: bool) -> Iterator[Field]:
        description = self._resolved(found).get("description", "")
        holds = self.holds(found)
        if holds.count(", `") >= _MANY:
            start, _, values = holds.partition("`")
            holds, description = f"{start}a name", f"{description} One of `{values}.".lstrip()
        yield Field(path=path, holds=holds, description=description, required=required)
        suffix = ""
        while True:
            if "$ref" in found:
                if self._target(found) in self.objects:
                    return
                found = self._resolved(found)
            found = _without_null(found)
            if "items" in found:
                suffix, found = f"{suffix}[]", found["items"]
            elif isinstance(found.get("additionalProperties"), Mapping):
                suffix, found = f"{suffix}.NAME", found["additionalProperties"]
            else:
                break
        yield from self.fields(found, f"{path}{suffix}.")

    def holds(self, found: Schema) -> str:
        """Return what a value may be, in words and links."""
        if "$ref" in found:
            target = self._target(found)
            if target not in self.schema.get("$defs", {}):
                return _of_other(found["$ref"])
            if target in self.objects:
                return f"[{target}](#{self.anchor(target)})"
            return self.holds(self.schema["$defs"][target])
        if "enum" in found:
            return _listed([_literal(value) for value in found["enum"]])
        if "const" in found:
            return _literal(found["const"])
        for key in ("oneOf", "anyOf"):
            kinds = found.get(key, ())
            if kinds and all("required" not in kind or "type" in kind for kind in kinds):
                if "properties" in found:
                    break
                return _either([self.holds(kind) for kind in kinds])
        kinds = found.get("type", "any value")
        kinds = [kinds] if isinstance(kinds, str) else list(kinds)
        return _either([self._kind(kind, found) for kind in kinds])

    def _kind(self, kind: str, found: Schema) -> str:
        if kind == "array":
            return f"list of: {self.holds(found['items'])}" if "items" in found else "list"
        values = found.get("additionalProperties")
        if kind == "object" and isinstance(values, Mapping):
            return f"object, a name to: {self.holds(values)}"
        return kind

    def _resolved(self, found: Schema) -> Schema:
        """Return a schema with what it refers to; what is in another file stays as it is."""
        named = self.schema.get("$defs", {}).get(self._target(found)) if "$ref" in found else None
        if named is None:
            return {key: value for key, value in found.items() if key != "$ref"}
        return {**named, **{key: value for key, value in found.items() if key != "$ref"}}

    def _target(self, found: Schema) -> str:
        return str(found["$ref"]).rpartition("/")[2]

    def anchor(self, name: str) -> str:
        """Return the anchor of an object's table."""
        return f"{self.name}-{name}".replace("_", "-")

    def markdown(self) -> str:
        """Return the tables: that of the whole first, then one for each object.

        Their headings are of the third level: the page has one of the second for the schema.
        """
        fields = tuple(self.fields(self.schema))
        parts = [f"{self.schema['description']}\n", *([table(fields)] if fields else [])]
        for name, found in self.objects.items():
            forms = _forms(found)
            text = found.get("description", "" if len(forms) > 1 else forms[0].get("description"))
            parts.append(f"({self.anchor(name)})=\n\n### {name}\n\n{text or ''}\n")
            for form in forms:
                if len(forms) > 1:
                    parts.append(f"{form['description']}\n")
                parts.append(table(self.fields(form)))
        return "\n".join(parts)


def table(fields: Iterable[Field]) -> str:
    """Return a table in Markdown of fields: name, what it holds, meaning."""
    rows = ["| field | holds | meaning |", "|---|---|---|"]
    for field in fields:
        needed = "" if field.required else "optional; "
        cells = (f"`{field.path}`", f"{needed}{field.holds}", field.description)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _fields_of(found: Schema) -> Schema | None:
    """Return the object with fields that a schema is, or is where it is not null; else None."""
    if "properties" in found and "object" in _types(found):
        return found
    for key in ("oneOf", "anyOf"):
        inner = [kind for kind in found.get(key, ()) if "properties" in kind]
        if len(inner) == 1 and "object" in _types(inner[0]):
            return dict(inner[0])
    return None


def _of_other(reference: str) -> str:
    """Return a link to the schema of another file, or to an object there."""
    name, _, place = reference.partition(".schema.json")
    target = place.rpartition("/")[2]
    anchor = f"{name}-{target or 'schema'}".replace("_", "-")
    return f"[{target or name}](#{anchor})"


def _forms(found: Schema) -> list[Schema]:
    """Return the objects with fields that a schema may be: one, several, or none."""
    inner = _fields_of(found)
    if inner is not None:
        return [inner]
    return [form for form in found.get("oneOf", ()) if _fields_of(form) is not None]


def _without_null(found: Schema) -> Schema:
    for key in ("oneOf", "anyOf"):
        kinds = [kind for kind in found.get(key, ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            return dict(kinds[0])
    return found


def _types(found: Schema) -> list[str]:
    kinds = found.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _literal(value: object) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _listed(words: list[str]) -> str:
    return ", ".join(words)


def _either(words: list[str]) -> str:
    return " or ".join(dict.fromkeys(words))
