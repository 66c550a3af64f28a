"""The guide's reference against the code: what is made is whole, what is written is current."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from guide.commands import every_parser, exit_status_table, exit_statuses
from guide.environments import environment_table
from guide.schemas import SchemaReader, table
from matrix._util.paths import DATA
from matrix.catalog import constraints
from matrix.record import jit_modules, startup_tests
from matrix.rules import expectations_file, notes, platform_differences, waivers

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
SCHEMAS = sorted(path.name.removesuffix(".schema.json") for path in DATA.glob("*.schema.json"))


def reader(name: str) -> SchemaReader:
    text = (DATA / f"{name}.schema.json").read_text(encoding="utf-8")
    return SchemaReader(schema=json.loads(text), name=name)


def properties(schema: object) -> set[str]:
    """Return the name of every property of a schema, at any depth."""
    found: set[str] = set()
    if isinstance(schema, list):
        return found.union(*map(properties, schema))
    if isinstance(schema, Mapping):
        # What `if`, `then` and `anyOf` say of a property is of one that stands elsewhere too.
        for key, value in schema.items():
            found |= set(value) if key == "properties" else set()
            found |= properties(list(value.values()) if key == "properties" else value)
    return found


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_reference_has_each_field_of_a_schema_with_its_meaning(name: str) -> None:
    found = reader(name)
    rows = re.findall(r"^\| `(.+?)` \| (.+) \| (.*) \|$", found.markdown(), re.MULTILINE)
    assert [row for row in rows if not (row[1] and row[2])] == []
    shown = {re.sub(r"\[\]|\.NAME", "", path).rpartition(".")[2] for path, _, _ in rows}
    assert shown == properties(found.schema)
    page = "".join(path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md"))
    assert page.count(f"```{{generated}} schema {name}\n") == 1
    assert f"({name.replace('_', '-')}-schema)=" in page


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_link_of_a_schema_leads_to_a_table(name: str) -> None:
    links = set(re.findall(r"\]\(#([\w-]+)\)", reader(name).markdown()))
    targets = {
        target
        for other in SCHEMAS
        for target in (
            f"{other}-schema".replace("_", "-"),
            *re.findall(r"^\((.+)\)=$", reader(other).markdown(), re.MULTILINE),
        )
    }
    assert links <= targets


def test_a_schema_becomes_a_table() -> None:
    schema: Mapping[str, Any] = {
        "description": "A.",
        "type": "object",
        "required": ["one"],
        "properties": {
            "one": {"description": "B.", "enum": ["x", None]},
            "two": {
                "description": "C.",
                "oneOf": [
                    {"type": "null"},
                    {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"three": {"description": "D.", "const": 3}},
                        },
                    },
                ],
            },
            "four": {
                "description": "E.",
                "type": "object",
                "additionalProperties": {"$ref": "#/$defs/five"},
            },
            "six": {"description": "F.", "enum": list("abcdefg")},
        },
        "$defs": {"five": {"type": ["string", "null"]}},
    }
    assert table(SchemaReader(schema=schema, name="s").fields(schema)).splitlines()[2:] == [
        "| `one` | `x`, `null` | B. |",
        "| `two` | optional; null or list of: object | C. |",
        "| `two[].three` | optional; `3` | D. |",
        "| `four` | optional; object, a name to: string or null | E. |",
        "| `six` | optional; a name | F. One of `a`, `b`, `c`, `d`, `e`, `f`, `g`. |",
    ]


def test_each_command_says_its_exit_statuses() -> None:
    found = exit_statuses()
    assert len(found) > 30
    assert [command for command, text in found.items() if not text.startswith("0")] == []
    assert exit_status_table().count("\n") == len(found) + 2


def test_the_parsers_are_those_of_all_commands() -> None:
    names = {parser.command for parser in every_parser()}
    assert {"", "run", "candidate", "candidate add", "results merge"} <= names


def test_the_environments_of_tox_are_shown_and_no_cell() -> None:
    text = environment_table((ROOT / "tox.ini").read_text(encoding="utf-8"))
    assert "| `docs` | " in text and "| `unit` | " in text
    assert "torch21" not in text


FILES: Mapping[str, tuple[ModuleType, tuple[str, ...]]] = {
    "expectations.toml": (expectations_file, ("id", *expectations_file._NEEDED)),
    "waivers.toml": (waivers, waivers._NEEDED),
    "notes.toml": (notes, notes._NEEDED),
    "differences.toml": (platform_differences, ("id", "counters", "text", "evidence")),
    "jit.toml": (jit_modules, jit_modules._NEEDED),
    "startup_tests.toml": (startup_tests, startup_tests._NEEDED),
    "constraints.toml": (constraints, constraints._NEEDED),
}
"""The module that reads a data file, and the keys that a row of it needs."""


def section(page: str, heading: str) -> str:
    text = (REFERENCE / page).read_text(encoding="utf-8")
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("file", list(FILES))
def test_the_keys_of_a_data_file_are_those_that_its_reader_knows(file: str) -> None:
    module, needed = FILES[file]
    rows = re.findall(r"^\| `(\w+)` \|( yes)? \|", section("expectations.md", file), re.MULTILINE)
    assert sorted(key for key, _ in rows) == sorted(module._KEYS)
    assert {key for key, wanted in rows if wanted} == set(needed)


def test_the_example_of_a_waiver_is_read() -> None:
    (example,) = re.findall(
        r"```toml\n(.+?)```", section("expectations.md", "waivers.toml"), re.DOTALL
    )
    (waiver,) = waivers.parse_waivers(example, "example").every
    assert waiver.counters == {"num_graphs_seen": 0}


def test_the_examples_out_of_the_data_are_there() -> None:
    """The build would end with a warning; this one says where."""
    text = (REFERENCE / "expectations.md").read_text(encoding="utf-8")
    found = re.findall(r"literalinclude\} ../../(\S+)\n.*\n:start-at: (.+)\n", text)
    assert len(found) == len(FILES) - 1
    for path, start in found:
        assert (ROOT / path).read_text(encoding="utf-8").count(f"\n{start}\n") == 1


def test_each_variable_of_the_code_is_in_the_reference() -> None:
    page = (REFERENCE / "configuration.md").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "matrix").rglob("*.py"))
    named = set(re.findall(r'"(MATRIX_[A-Z_]*[A-Z])"', sources))
    assert len(named) > 8
    assert {name for name in named if f"`{name}`" not in page} == set()


def test_every_page_with_a_printed_example_is_checked(tmp_path: Path) -> None:
    texts = {
        "README.md": "<!-- [[[cog\n]]] -->\n",
        "docs/a/b.md": "<!-- [[[cog\n]]] -->\n",
        "docs/c.md": "none\n",
        "tests/d.md": "<!-- [[[cog\n]]] -->\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    pages = runpy.run_path(str(ROOT / "scripts" / "printed.py"))["pages"]
    found = [str(path.relative_to(tmp_path)) for path in pages(tmp_path)]
    assert found == ["README.md", "docs/a/b.md"]


def test_each_picture_is_there_and_small() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "screenshots.py"))
    names = [f"{picture.name}.png" for picture in script["PICTURES"]] + ["seconds.svg"]
    sizes = {name: (ROOT / "docs" / "_static" / name).stat().st_size for name in names}
    assert max(sizes.values()) <= script["LIMIT"]


def test_ci_builds_the_guide() -> None:
    assert "\nstep docs .venv/bin/tox -e docs\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    jobs = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert "- env: docs\n" in jobs
