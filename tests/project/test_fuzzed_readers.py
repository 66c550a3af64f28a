"""Whatever a reader is given, it reads it or refuses it in one line that a terminal can show.

The readers of what other people and programs wrote: a good text of each is damaged at random, and
by what is kept in `tests/corpus`: what once broke one. A name there begins with the reader's.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import good_files
from full_record import make
from matrix._util.paths import DATA
from matrix._util.text import clean, shorten
from matrix.catalog.candidates.file import parse_candidates
from matrix.catalog.constraints import parse_constraints
from matrix.catalog.hardware_file import load_hardware
from matrix.catalog.index import read_members
from matrix.catalog.package_metadata import read_torch
from matrix.catalog.projects import Project
from matrix.catalog.releases_file import read_rows
from matrix.catalog.requirements import read_requirements
from matrix.checks.gpu_code.wheels import load_wheels
from matrix.checks.linkage.tables import load
from matrix.checks.resolution.cache import load_resolutions
from matrix.checks.resolution.lock import parse_lock
from matrix.checks.resolution.uv_output import read_conflict, why_install_failed
from matrix.errors import MatrixError
from matrix.qualify.state_files import (
    read_history,
    read_rounds,
    read_runs,
    read_table_watch,
)
from matrix.record.jit_modules import parse_jit_modules
from matrix.record.reader import parse, read_many
from matrix.record.signature import signature
from matrix.record.writer import to_json
from matrix.rules.expectations_file import parse_expectations
from matrix.rules.notes import parse_notes
from matrix.rules.platform_differences import parse_explanations
from matrix.rules.upstream.file import parse_upstream
from matrix.rules.upstream.tests import read_flag, read_tests
from matrix.rules.waivers import parse_waivers
from matrix.run.past_run import read_run
from matrix.run.wheel_content import read_bundled, read_note

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "corpus"
Reader = Callable[[bytes, Path], object]
"""Reads these bytes, which it may write into the folder first."""

WAIVER = """
[[waiver]]
id = "a"
why = "known"
link = "https://github.com/vllm-project/vllm/issues/1"
until = 2027-01-31
signature = "RuntimeError: x"
case = "moe_startup[mega_aot=1]"
torch = ">=2.12"
"""
LOCK = """
numpy==2.1.0 \\
    --hash=sha256:00 \\
    # via torch
torch @ https://x.example/torch-2.10.0-cp312-cp312-manylinux_2_28_x86_64.whl
    # via
    #   vllm
"""


def text_of(content: bytes) -> str:
    """Return the text as a reader of files makes it; what is not UTF-8 such a reader refuses."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise MatrixError("not UTF-8") from None


def of_text(reader: Callable[[str], object]) -> Reader:
    return lambda content, _: reader(text_of(content))


def of_file(reader: Callable[[Path], object], name: str = "given") -> Reader:
    def read(content: bytes, folder: Path) -> object:
        (folder / name).write_bytes(content)
        return reader(folder / name)

    return read


def of_folder(reader: Callable[[Path], object], name: str) -> Reader:
    return of_file(lambda path: reader(path.parent), name)


def _records(path: Path) -> None:
    for error in read_many([path.parent])[1]:
        check_line(error)


def _zip() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("vllm-0.33.0.dist-info/METADATA", "vllm/__init__.py", "a/b.txt"):
            archive.writestr(name, "Name: vllm\nVersion: 0.33.0\n" * 20)
    return held.getvalue()


def _tar() -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for name in ("vllm-0.33.0/PKG-INFO", "vllm-0.33.0/tests/test_a.py"):
            info = tarfile.TarInfo(name)
            info.size = 540
            archive.addfile(info, io.BytesIO(b"Name: vllm\nVersion: 0.33.0\n" * 20))
    return held.getvalue()


def _data(name: str, limit: int = 6000) -> bytes:
    """Return a data file of the package, the head of a long one."""
    text = (DATA / name).read_text()
    if len(text) > limit and name.endswith(".toml"):
        text = text[:limit].rpartition("\n[[")[0]
    return text.encode()


def _table() -> bytes:
    return (DATA / "symbols" / "vllm-0.17.0.table").read_bytes()


def _wheels() -> bytes:
    """Return the first two wheels of the package's file."""
    rows = (DATA / "wheels.json").read_text().split(",\n")
    return (",\n".join(rows[:2]) + "\n]}\n").encode()


READERS: Mapping[str, tuple[Callable[[], bytes], Reader]] = {
    "candidates": (
        good_files.candidates,
        of_text(lambda text: parse_candidates(text, "given")),
    ),
    "hardware": (lambda: _data("hardware.toml"), of_file(load_hardware)),
    "read_wheels": (_wheels, of_file(load_wheels)),
    "constraints": (
        lambda: _data("constraints.toml"),
        of_text(lambda text: parse_constraints(text, "given")),
    ),
    "expectations": (
        lambda: _data("expectations.toml", 4000),
        of_text(lambda text: parse_expectations(text, "given")),
    ),
    "explanations": (
        lambda: _data("differences.toml"),
        of_text(lambda text: parse_explanations(text, "given")),
    ),
    "history": (
        good_files.history,
        of_folder(lambda path: read_history(path, "torch216rc1"), "torch216rc1.json"),
    ),
    "jit": (lambda: _data("jit.toml"), of_text(lambda t: parse_jit_modules(t, "given"))),
    "journal": (
        good_files.journal,
        of_folder(read_run, "journal.jsonl"),
    ),
    "lock": (LOCK.encode, of_text(parse_lock)),
    "metadata": (
        lambda: b"Metadata-Version: 2.1\nName: torch\nVersion: 2.10.0\nRequires-Dist: a>=1\n",
        of_text(lambda text: read_torch("2.10.0", text, "wheel")),
    ),
    "note": (
        lambda: b'{"a": {"file": "b", "sha256": "c"}}',
        of_folder(read_note, "matrix_published.json"),
    ),
    "notes": (lambda: _data("notes.toml"), of_text(lambda text: parse_notes(text, "given"))),
    "record": (
        lambda: to_json(make()).encode(),
        of_text(lambda text: parse(text, "given")),
    ),
    "records": (
        lambda: to_json(make()).encode(),
        of_file(_records, "py311-torch210-vllm019.json"),
    ),
    "releases": (
        lambda: json.dumps({"torch": [{"version": "2.10.0"}], "vllm": []}).encode(),
        of_file(read_rows),
    ),
    "requirements": (lambda: b'{"0.19.1": ["torch==2.10.0"]}', of_file(read_requirements)),
    "resolutions": (good_files.resolutions, of_file(load_resolutions)),
    "rounds": (good_files.rounds, of_folder(read_rounds, "rounds.json")),
    "runs": (good_files.runs, of_folder(read_runs, "runs.json")),
    "sdist": (_tar, of_file(lambda path: read_members(path, lambda _: True), "a.tar.gz")),
    "signature": (
        lambda: (ROOT / "tests/failures").joinpath("signatures.toml").read_bytes()[:3000],
        of_text(signature),
    ),
    "symbols": (_table, lambda content, _: load(content, "given")),
    "upstream": (
        good_files.upstream,
        of_text(lambda text: parse_upstream(text, "given")),
    ),
    "upstream-flag": (
        lambda: b"VLLM_X = bool(int(os.getenv('VLLM_X', '1')))\n",
        of_text(lambda text: read_flag(text, "VLLM_X")),
    ),
    "upstream-tests": (
        lambda: b"def test_a(x):\n    assert counters.expect(num=3)\n",
        of_text(lambda text: read_tests(text, startup=True)),
    ),
    "uv-conflict": (
        (ROOT / "tests/conflicts/long-chain.txt").read_bytes,
        of_text(lambda text: read_conflict(text, {"a": "1"}, "3.11", "x86_64-manylinux_2_28")),
    ),
    "uv-install": (
        (ROOT / "tests/conflicts/long-chain.txt").read_bytes,
        of_text(why_install_failed),
    ),
    "waivers": (WAIVER.encode, of_text(lambda text: parse_waivers(text, "given"))),
    "watched": (good_files.watched, of_file(read_table_watch)),
    "wheel": (_zip, of_file(lambda path: read_members(path, lambda _: True), "a.whl")),
    "wheels": (
        lambda: b'{"torch": {"file": "a", "sha256": "b", "record": "c"}}',
        of_folder(lambda path: read_bundled(path, Project.TORCH, "x"), "bundle_wheels.json"),
    ),
}


@cache
def good(name: str) -> bytes:
    return READERS[name][0]()


def check_line(error: MatrixError) -> None:
    """As `matrix._util.console` prints it."""
    said = shorten(clean(str(error)))
    assert said.strip() and len(said.splitlines()) == 1 and len(said) <= 2000, said


def read_or_refuse(name: str, content: bytes) -> None:
    """Read it in a folder of its own; nothing is written elsewhere, nor another file there."""
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder, "inside")
        inside.mkdir()
        try:
            READERS[name][1](content, inside)
        except MatrixError as error:
            check_line(error)
        assert [path.name for path in Path(folder).iterdir()] == ["inside"]
        assert len(list(inside.rglob("*"))) <= 1


BYTES = st.sampled_from(
    [
        b"\0", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"[" * 5000, b"{", b"}", b'"',
        b"-1", b"1e999", b"9" * 5000, b"NaN", b"null", b"true", b"[]", b"{}", b"../../x", b"/x",
        b"\x1b[31m", b"\r\n", b"\n", b"2026-02-30", b"0x" + b"f" * 4000, b"'" * 3, b"\xe2\x80\xa8",
    ]
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return some edits of a good text: bytes that change, go, come twice or are hostile ones."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        end = min(len(content), at + draw(st.integers(0, 40)))
        kind = draw(st.sampled_from(["flip", "cut", "end", "twice", "put", "instead"]))
        if kind == "flip" and at < len(content):
            content[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del content[at:end]
        elif kind == "end":
            del content[at:]
        elif kind == "twice":
            content[at:at] = content[at:end]
        else:
            content[at : end if kind == "instead" else at] = draw(BYTES)
    return bytes(content)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just("../x"),
    st.just("\ud800"), st.just("a\nb\0"), st.just([]), st.just({}), st.just(10**4000),
    st.just("9" * 5000), st.just([[]]), st.just({"": None}), st.just("2026-02-30"),
)  # fmt: skip


def places(value: object, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = enumerate(value) if isinstance(value, list) else ()
    found = list(value.items() if isinstance(value, dict) else items)
    return [way, *(place for key, inner in found for place in places(inner, (*way, key)))]


@st.composite
def changed(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return a JSON text with an odd value in some place, or without what is there."""
    value = json.loads(whole)
    for _ in range(draw(st.integers(1, 2))):
        way = draw(st.sampled_from(places(value)))
        odd = copy.deepcopy(draw(ODD))
        if not way:
            value = odd if draw(st.booleans()) else value
            continue
        holder = value
        for key in way[:-1]:
            holder = holder[key]
        if draw(st.booleans()):
            holder[way[-1]] = odd
        else:
            del holder[way[-1]]
    return json.dumps(value, default=str).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("length", range(12))
def test_an_archive_that_ends_within_its_head_is_refused_in_a_line(length: int) -> None:
    read_or_refuse("sdist", gzip.compress(b"")[:length])


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_a_damaged_text_is_read_or_refused_in_a_line(name: str, data: st.DataObject) -> None:
    read_or_refuse(name, data.draw(damaged(good(name))))


def is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


OF_JSON = [name for name in READERS if is_json(good(name))]


@pytest.mark.parametrize("name", OF_JSON)
@given(data=st.data())
def test_odd_values_are_read_or_refused_in_a_line(name: str, data: st.DataObject) -> None:
    read_or_refuse(name, data.draw(changed(good(name))))


@given(data=st.data())
def test_odd_values_in_a_line_of_a_journal_are_read_or_refused(data: st.DataObject) -> None:
    lines = good("journal").splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    lines[number] = data.draw(changed(lines[number]))
    read_or_refuse("journal", b"\n".join(lines) + b"\n")


@pytest.mark.parametrize("name", READERS)
def test_a_good_text_is_read(name: str, tmp_path: Path) -> None:
    """So that what is damaged gets as far as a reader goes."""
    READERS[name][1](good(name), tmp_path)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.*")), ids=lambda path: path.name)
def test_what_once_broke_a_reader(path: Path) -> None:
    read_or_refuse(path.name.partition(".")[0], path.read_bytes())
