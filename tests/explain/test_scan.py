"""A text of any size is read as a stream: what is kept has a limit, and nothing is lost by it."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explained import kinds, read
from matrix.explain.faults import faults_in
from matrix.explain.model import FaultKind
from matrix.explain.recognise import MARKS
from matrix.explain.scan import AFTER, BEFORE, HEAD, MOST_EXCERPTS, TAIL, scan

SYMBOL = b"ImportError: /x/_C.abi3.so: undefined symbol: _ZN3c1013MessageLoggerC1EPKciib\n"
KERNEL = b"RuntimeError: CUDA error: no kernel image is available for execution on the device\n"
NOISE = b"(EngineCore pid=7) INFO 11-22 18:00:00 [core.py:842] 12 requests, 40 tokens/s\n"
BLOCK = NOISE * (1 << 12)


def chunks(size: int, text: bytes) -> Iterator[bytes]:
    for place in range(0, len(text), size):
        yield text[place : place + size]


def test_what_is_kept_of_a_long_log_has_a_limit_and_no_error_is_lost() -> None:
    """As much text as wanted goes by; only the excerpts, the head and the tail stay."""
    held: list[int] = []

    def log() -> Iterator[bytes]:
        for number in range(64):
            yield BLOCK
            yield f"x.so: undefined symbol: _ZN3c10{number}aEv\n".encode()
            held.append(number)
        yield KERNEL

    found = scan(log(), MARKS)
    assert len(held) == 64
    assert len(found.excerpts) == MOST_EXCERPTS
    assert found.more == 65 - MOST_EXCERPTS
    kept = [found.head, found.tail, found.traceback, *(excerpt.text for excerpt in found.excerpts)]
    assert sum(map(len, kept)) <= HEAD + TAIL + (1 + MOST_EXCERPTS) * (BEFORE + AFTER)
    assert found.size > 64 * len(BLOCK)


def test_an_error_in_the_middle_and_one_at_the_end_of_a_log_are_found() -> None:
    log = [BLOCK, SYMBOL, BLOCK, BLOCK, KERNEL]
    assert [fault.kind for fault in faults_in(iter(log)).faults] == [
        FaultKind.UNDEFINED_SYMBOL,
        FaultKind.NO_KERNEL,
    ]


def test_a_line_that_comes_without_an_end_is_read_by_its_parts() -> None:
    """A log as one line of JSON: each of its errors counts."""
    line = b'{"log": "' + b"x" * 300_000 + SYMBOL.strip() + b"\\n" + b"y" * 300_000 + KERNEL.strip()
    assert kinds(line) == [FaultKind.UNDEFINED_SYMBOL, FaultKind.NO_KERNEL]


@given(st.integers(512, 40_000), st.integers(0, 2**32))
@settings(max_examples=25)
def test_how_a_text_is_cut_into_chunks_changes_nothing(size: int, seed: int) -> None:
    chance = random.Random(seed)
    parts = [SYMBOL, KERNEL, *(NOISE * chance.randrange(600) for _ in range(3))]
    chance.shuffle(parts)
    text = b"".join(parts)
    assert faults_in(chunks(size, text)) == faults_in([text])


def test_one_byte_at_a_time_is_a_text_too() -> None:
    assert kinds(SYMBOL) == [fault.kind for fault in faults_in(chunks(1, SYMBOL)).faults]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_other_encodings_are_read_as_well(encoding: str) -> None:
    assert kinds(SYMBOL.decode().encode(encoding)) == [FaultKind.UNDEFINED_SYMBOL]


def test_mixed_encodings_lose_no_error() -> None:
    text = "Fehler: Gerät größer\n".encode("latin-1") + SYMBOL + "Ошибка\n".encode("koi8-r")
    assert kinds(text) == [FaultKind.UNDEFINED_SYMBOL]
    assert not read(text).binary


@pytest.mark.parametrize(
    "text",
    [
        b"ImportError: \x1b[1;31mlibcudart.so.12\x1b[0m: cannot open shared object file\n",
        b"libcudart.so.12: cannot \x1b[01;31m\x1b[Kopen shared\x1b[m\x1b[K object file\n",
        b"\x1b]8;;https://a.example\x1b\\libcudart.so.12\x1b]8;;\x07: cannot open shared object\n",
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_colours_and_links_within_an_error_hide_nothing(text: bytes, size: int) -> None:
    found = faults_in(chunks(size, text + NOISE + b"ValueError: another\n"))
    assert [(fault.kind, fault.subject) for fault in found.faults] == [
        (FaultKind.MISSING_LIBRARY, "libcudart.so.12"),
        (FaultKind.UNKNOWN, None),
    ]


@pytest.mark.parametrize("begun", [b"\x1b", b"\x1b[31", b"\x1b]0;title", b"\x1b]" + b"x" * 5000])
def test_an_escape_without_an_end_takes_no_error_with_it(begun: bytes) -> None:
    for size in (1, 7, 1 << 20):
        found = faults_in(chunks(size, begun + b"\n" + KERNEL + begun))
        assert found.faults[0].kind is FaultKind.NO_KERNEL


def test_bytes_that_are_no_text_are_known_as_such() -> None:
    noise = random.Random(1).randbytes(100_000)
    assert read(noise).binary
    assert not read(noise).known
    # Where an error stands in them, it is answered all the same.
    assert kinds(noise + b"\n" + SYMBOL)[0] is FaultKind.UNDEFINED_SYMBOL
    # A terminal's marks are text.
    assert not read(b"\x1b[31mred\x1b[0m\a\b\t\r\n" * 100).binary


def test_the_same_error_a_million_times_is_one() -> None:
    assert kinds(SYMBOL * 50_000) == [FaultKind.UNDEFINED_SYMBOL]


def test_a_mark_that_shows_nothing_is_no_fault() -> None:
    text = b"\n".join(mark for mark, _ in MARKS)
    known = {fault.kind for fault in read(text).faults}
    assert known <= {
        FaultKind.GPU_STATE,
        FaultKind.MEMORY,
        FaultKind.MISSING_EXTENSION,
        FaultKind.MISSING_LIBRARY,
        FaultKind.OLD_DRIVER,
        FaultKind.OTHER_PACKAGE,
        FaultKind.TOOL,
        FaultKind.NO_KERNEL,
        FaultKind.TORCHVISION,
        FaultKind.UNKNOWN,
    }
