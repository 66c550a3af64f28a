"""Notes: the pairs of which one speaks, and bad ones."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from matrix._util.versions import VersionRange
from matrix.record.model import Platform
from matrix.report import markdown, table_json
from matrix.report.model import Report
from matrix.rules.notes import Note, NotesError, load_notes, parse_notes
from matrix.verdict.table import Table

ROOT = Path(__file__).parents[2]
GOOD = """
[[note]]
id = "a"
text = '''what
to know'''
evidence = ["results/cuda/py312-torch213-vllm032.json"]
platform = "cuda"
vllm = "==0.32.0"
"""


def test_a_note_speaks_of_its_pairs_alone() -> None:
    (note,) = parse_notes(GOOD, "notes.toml")
    assert (note.id, note.text) == ("a", "what to know")
    assert note.covers(Platform.CUDA, "2.13.0", "0.32.0") and note.covers(
        Platform.CUDA, "2.9.1", "0.32.0"
    )
    assert not note.covers(Platform.CPU, "2.13.0", "0.32.0")
    assert not note.covers(Platform.CUDA, "2.13.0", "0.32.1")
    assert replace(note, platform=None).covers(Platform.CPU, "2.13.0", "0.32.0")
    assert not replace(note, torch=VersionRange("<2.13")).covers(Platform.CUDA, "2.13.0", "0.32.0")
    assert note.signature is None
    (named,) = parse_notes(f"{GOOD}signature = 'KeyError: 1'\n", "notes.toml")
    assert named.signature == "KeyError: 1"
    assert parse_notes("", "notes.toml") == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[[note]]", "[note]"), "note: is not a list; begin each with [[note]]"),
        (("[[note]]", "[[notes]]"), "notes: unknown key; begin each with [[note]]"),
        (("[[note]]", "[[note"), "is not TOML"),
        (('id = "a"', ""), "note 1: id: is missing; add it"),
        (('id = "a"', "id = 1"), "note 1: id: is missing or empty"),
        (("what\nto know", " \n"), "is empty; say what people must know"),
        (("platform", "where"), "note 1: where: unknown key; known are id, text, evidence"),
        (('"cuda"\n', '"rocm"\n'), 'note 1: platform: \'rocm\' is unknown; write "cuda" or "cpu"'),
        (('"cuda"\n', '["cuda"]\n'), "note 1: platform: ['cuda'] is unknown"),
        (('"==0.32.0"', '"0.32"'), "note 1: vllm: "),
        (('"==0.32.0"', "32"), "note 1: vllm: 32 is not a string"),
        (('["results/cuda/py312-torch213-vllm032.json"]', "[]"), "note 1: evidence: "),
        (("results/cuda/py312", "https://evil.example/py312"), "note 1: evidence: "),
        (('platform = "cuda"', "signature = 7"), "note 1: signature: "),
        (('platform = "cuda"', "signature = 'E @ /a/b.py:12'"), "note 1: signature: is not one"),
        ((GOOD, GOOD + GOOD), "note 'a': id: appears twice"),
    ],
)
def test_a_bad_note_is_named_with_its_fix(change: tuple[str, str], said: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(NotesError) as raised:
        parse_notes(GOOD.replace(*change), "notes.toml")
    assert str(raised.value).startswith("notes.toml: ") and said in str(raised.value)


def test_the_package_s_notes_have_evidence_that_is_there() -> None:
    notes = load_notes()
    assert notes
    for note in notes:
        for item in note.evidence:
            assert item.startswith("https://") or (ROOT / item).is_file()


def test_markdown_and_json_tell_them() -> None:
    notes = (
        *parse_notes(GOOD, "notes.toml"),
        Note(id="b", text="<b>", evidence=("results/cpu/b.json",)),
    )
    report = Report(table=Table(entries=()), notes=notes)
    told = markdown.render(report)
    assert "- vLLM ==0.32.0 on cuda: what to know Evidence: " in told
    assert "- every pair: &lt;b&gt; Evidence: `results/cpu/b.json`." in told
    assert json.loads(table_json.render(report))["notes"][0] == {
        "id": "a",
        "platform": "cuda",
        "torch": None,
        "vllm": "==0.32.0",
        "text": "what to know",
        "evidence": ["results/cuda/py312-torch213-vllm032.json"],
    }
    assert "to know" not in markdown.render(Report(table=Table(entries=())))
