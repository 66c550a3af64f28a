import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from source_digest import SourceDigestError, digest_of, statements
from source_guards import ACCEPT, ROOT, accepted, current, guards, problem

MODULE = '''
"""A module."""
import os
from matrix.record.model import Record
from matrix.catalog import cells

__all__ = ["LIMIT", "start"]

LIMIT = 3


def start(record: Record) -> dict[str, int]:
    """Start it."""
    from matrix.inside import vllm_compat as features

    counted = {**features.counters(), "limit": LIMIT}  # count
    return counted
'''
MOVED = '''
from __future__ import annotations

from matrix.record.model import Record
from matrix.inside import vllm_compat as other


def start(record: Record) -> dict[str, int]:
    """Start a record, in other words.

    And more of them.
    """
    from matrix.inside.compat import features
    counted = {**features.counters(),
               "limit": LIMIT}
    return counted


LIMIT = 3
"""The limit."""
'''


def test_the_versions_speak_of_the_sources_as_they_are() -> None:
    versions = current()
    found = guards()
    assert list(found) == list(versions)
    for name, guard in found.items():
        digest = digest_of(ROOT, guard["sources"], guard["data"])
        told = problem(name, guard, versions[name], digest)
        assert told is None, told


def test_words_places_and_imports_change_no_digest() -> None:
    assert set(statements(MODULE)) == set(statements(MOVED))
    assert len(list(statements(MODULE))) == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ('{**features.counters(), "limit": LIMIT}', '{"limit": features.counters(), **LIMIT}'),
        ("return counted", "return dict(counted)"),
        ("features.counters()", "features.counted()"),
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("    return counted", "    import torch\n    return counted"),
    ],
)
def test_what_the_code_does_changes_it(old: str, new: str) -> None:
    assert old in MODULE
    assert set(statements(MODULE)) != set(statements(MODULE.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("from time import monotonic as now", "from time import time as now"),
        ("from vllm.one import now", "from vllm.two import now"),
        ("import time as now", "import os as now"),
        (
            "if TYPE_CHECKING:\n    now = 1\nelse:\n    now = 2",
            "if TYPE_CHECKING:\n    now = 1\nelse:\n    now = 3",
        ),
    ],
)
def test_what_it_uses_of_other_packages_counts(old: str, new: str) -> None:
    use = "\n\ndef start():\n    return now()\n"
    assert set(statements(old + use)) != set(statements(new + use))
    assert set(statements(f"{old}\nimport unused{use}")) == set(statements(old + use))


def test_what_a_named_definition_uses_of_other_packages_counts() -> None:
    use = "\n\ndef start():\n    return now()\n\ndef end():\n    return 1\n"
    one, other = (f"from time import {name} as now{use}" for name in ("time", "monotonic"))
    assert set(statements(one, ["start"])) != set(statements(other, ["start"]))
    assert set(statements(one, ["end"])) == set(statements(other, ["end"]))


def test_names_of_own_modules_in_strings_are_free_to_move() -> None:
    before, after, other = (
        list(statements(f"find({name!r})"))
        for name in ("matrix.inside.cpu.attention", "matrix.inside.attention", "matrix.inside.cpu")
    )
    assert before == after != other


def test_a_file_is_free_to_move_away_from_its_data() -> None:
    before, after, other = (
        list(statements(f"_DATA = Path(__file__).resolve().{above} / {name!r}"))
        for above, name in (("parent", "a"), ("parents[2]", "a"), ("parent", "b"))
    )
    assert before == after != other


def test_the_text_of_an_f_string_counts_however_it_is_parted() -> None:
    before, after, other = (
        list(statements(text)) for text in ('f"a{x}b" "c"', 'f"a{x}bc"', 'f"a{x!r}bc"')
    )
    assert before == after != other


def test_only_the_named_definitions_count(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(MODULE)
    named = digest_of(tmp_path, ["a.py::start"])
    (tmp_path / "a.py").write_text(MODULE.replace("LIMIT = 3", "LIMIT = 4"))
    assert digest_of(tmp_path, ["a.py::start"]) == named
    assert digest_of(tmp_path, ["a.py::start,LIMIT"]) != named
    with pytest.raises(SourceDigestError, match=r"a\.py::stop: stop is not defined there"):
        digest_of(tmp_path, ["a.py::stop"])
    with pytest.raises(SourceDigestError, match=r"b/\*\.py: does not exist"):
        digest_of(tmp_path, ["b/*.py"])


def test_a_module_may_be_moved_and_split(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(MODULE)
    whole = digest_of(tmp_path, ["a.py"])
    room = tmp_path / "room"
    room.mkdir()
    (room / "limits.py").write_text("LIMIT = 3\n")
    (room / "start.py").write_text(MOVED.replace("LIMIT = 3\n", ""))
    assert digest_of(tmp_path, ["room/*.py"]) == whole


def test_data_counts_by_its_bytes_and_a_schema_by_its_rules(tmp_path: Path) -> None:
    data = tmp_path / "models"
    data.mkdir()
    (data / "config.json").write_text("{}")
    schema = tmp_path / "a.schema.json"
    schema.write_text(json.dumps({"title": "a", "properties": {"title": {"type": "string"}}}))
    first = digest_of(tmp_path, [], ["models", "a.schema.json"])
    schema.write_text(json.dumps({"title": "b", "properties": {"title": {"type": "string"}}}))
    assert digest_of(tmp_path, [], ["models", "a.schema.json"]) == first
    schema.write_text(json.dumps({"title": "b", "properties": {"title": {"type": "null"}}}))
    second = digest_of(tmp_path, [], ["models", "a.schema.json"])
    (data / "config.json").write_text("{ }")
    assert len({first, second, digest_of(tmp_path, [], ["models", "a.schema.json"])}) == 3
    with pytest.raises(SourceDigestError, match="none: does not exist"):
        digest_of(tmp_path, [], ["none"])


def test_the_guarded_sources_parse_alike_without_their_words() -> None:
    for guard in guards().values():
        for source in guard["sources"]:
            for path in ROOT.glob(source.partition("::")[0]):
                text = path.read_text(encoding="utf-8")
                # What ast writes back has no comments and another layout.
                assert set(statements(ast.unparse(ast.parse(text)))) == set(statements(text))


def test_a_problem_says_what_to_do() -> None:
    guard = guards()["STARTUP_TESTS_VERSION"]
    name, version, digest = "STARTUP_TESTS_VERSION", guard["version"], guard["digest"]
    assert problem(name, guard, version, digest) is None
    told = problem(name, guard, version, "sha256:other")
    assert told is not None
    assert "raise STARTUP_TESTS_VERSION in matrix/record/startup_tests.py" in told
    assert f"run `{ACCEPT}` and say so in the commit" in told
    raised = problem(name, guard, version + 1, "sha256:other")
    assert raised is not None and raised.endswith(f"run `{ACCEPT}`")
    assert "never lower it" in str(problem(name, guard, version - 1, digest))
    newer = accepted(guard, version + 1, "sha256:other")
    assert problem(name, newer, version + 1, "sha256:other") is None


def test_the_command_says_how_things_stand() -> None:
    command = [sys.executable, str(ROOT / "tests" / "source_guards.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "every version speaks of the sources as they are\n"
