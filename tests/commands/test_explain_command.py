"""`matrix explain`: what it reads, what it refuses, and its exit status."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from command import matrix
from commanded import RECORD, make
from explained import apart, tables
from matrix.checks.linkage.link import load_tables
from matrix.checks.linkage.tables import file_name
from matrix.record.model import Case, Event, EventKind, Outcome
from matrix.record.writer import write

SYMBOL = "_ZN3c1013MessageLoggerC1EPKciib"
ERROR = f"ImportError: /x/vllm/_C.abi3.so: undefined symbol: {SYMBOL}"
UNKNOWN = "KeyError: 'weight'"


def piped(here: Path, text: bytes, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command with this text on its standard input."""
    with mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(text))):
        return matrix(here, "explain", *arguments)


def test_an_argument_a_file_and_the_standard_input_have_one_answer(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "build.log").write_text(f"{ERROR}\n", encoding="utf-8")
    answers = [
        matrix(tmp_path, "explain", ERROR),
        matrix(tmp_path, "explain", *ERROR.split()),
        matrix(tmp_path, "explain", "build.log"),
        piped(tmp_path, ERROR.encode()),
        piped(tmp_path, ERROR.encode(), "-"),
        matrix(tmp_path, "explain", "--", ERROR),
    ]
    assert {answer.stdout for answer in answers} == {answers[0].stdout}
    assert [(answer.returncode, answer.stderr) for answer in answers] == [(0, "")] * 6
    assert answers[0].stdout.count("\n") == 5
    assert "torch 2.10.0 alone exports it" in answers[0].stdout


def test_files_and_texts_are_each_answered(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("libcudart.so.13", encoding="utf-8")
    found = matrix(tmp_path, "explain", "a.log", SYMBOL)
    assert found.returncode == 0
    assert found.stdout.count("signature  ") == 2
    assert "\n\nsignature" in found.stdout


def test_of_a_record_it_answers_what_failed(tmp_path: Path) -> None:
    (case,) = make().cases
    event = Event(kind=EventKind.LOAD_FAILED, text="Compiling model again due to a load failure x")
    start = replace(case.starts[0], events=(event,))
    failed = Case(case="lora_startup", outcome=Outcome.FAILED, failure=f"a log\n{ERROR}")
    record = make(cases=(replace(case, starts=(start,)),), full_suite=(failed,))
    write(record, tmp_path / RECORD)
    found = matrix(tmp_path, "explain", RECORD)
    assert found.returncode == 0 and found.stdout.count("signature  ") == 1
    assert f"undefined symbol: {SYMBOL}" in found.stdout.splitlines()[0]
    write(replace(record, full_suite=()), tmp_path / RECORD)
    (first, *_) = matrix(tmp_path, "explain", RECORD).stdout.splitlines()
    assert first == "signature  Compiling model again due to a load failure x"
    (tmp_path / "other.json").write_text(f'{{"text": "{ERROR}"}}', encoding="utf-8")
    assert SYMBOL in matrix(tmp_path, "explain", "other.json").stdout


def test_a_file_that_is_not_there_is_no_text_also_beside_others(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(ERROR, encoding="utf-8")
    for words in (("a.log", "b.log"), ("b.log", "a.log"), ("b.log", "./c")):
        found = matrix(tmp_path, "explain", *words)
        assert (found.returncode, found.stdout) == (2, "")
        assert found.stderr.startswith("matrix: b.log: no such file; ")


def test_what_is_not_known_is_status_1(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    found = matrix(tmp_path, "explain", UNKNOWN)
    assert (found.returncode, found.stderr) == (1, "")
    assert "means      not known here" in found.stdout
    both = matrix(tmp_path, "explain", "--json", f"{ERROR}\n{UNKNOWN}")
    assert both.returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.log"], "nowhere.log: no such file"),
        (["./nowhere"], "./nowhere: no such file"),
        (["."], ".: is a folder"),
        (["/dev/null"], "/dev/null: is neither a file nor a pipe"),
        (["empty.log"], "empty.log: is empty"),
        ([""], "the text: is empty"),
        (["noise.bin"], "noise.bin: is not text"),
        (["--wheel", "x-1-py3-none-any.whl"], "x-1-py3-none-any.whl: no such file; name"),
        (["x-1-py3-none-any.whl"], "x-1-py3-none-any.whl: no such file"),
        (["_C.abi3.so"], "_C.abi3.so: is "),
        (["--records", "nowhere", SYMBOL], "--records nowhere: does not exist; name"),
        (["--records", "gs://x/y", SYMBOL], "gs://x/y: gs:// is not supported; name a folder"),
        (["closed.log"], "closed.log: cannot be read"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(
    tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "empty.log").touch()
    (tmp_path / "noise.bin").write_bytes(os.urandom(4096).replace(b"\x7fELF", b""))
    (tmp_path / "_C.abi3.so").write_bytes(b"\x7fELF")
    (tmp_path / "closed.log").touch(mode=0)
    if "closed.log" in words and os.geteuid() == 0:
        pytest.skip("root reads every file")
    found = matrix(tmp_path, "explain", *words)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith(f"matrix: {message}")
    assert found.stderr.count("\n") == 1


def test_an_unknown_option_is_refused_and_a_text_with_a_dash_is_not(tmp_path: Path) -> None:
    found = matrix(tmp_path, "explain", "--jsno", SYMBOL)
    assert found.returncode == 2
    assert "unrecognized arguments: --jsno (a text comes after --)" in found.stderr
    found = matrix(tmp_path, "explain", "--", f"-- {ERROR}")
    assert found.returncode == 0


def test_nothing_named_at_a_terminal_says_what_to_do(tmp_path: Path) -> None:
    with mock.patch.object(sys, "stdin", mock.Mock(isatty=lambda: True)):
        found = matrix(tmp_path, "explain")
    assert found.returncode == 2
    assert found.stderr.startswith("matrix: explain: there is nothing to read; name a file")
    with mock.patch.object(sys, "stdin", None):
        assert matrix(tmp_path, "explain").returncode == 2


def test_json_has_codes_facts_and_the_lines(tmp_path: Path) -> None:
    found = matrix(tmp_path, "explain", "--json", ERROR)
    data = json.loads(found.stdout)
    assert (data["schema"], data["more"]) == (1, 0)
    (answer,) = data["answers"]
    assert (answer["kind"], answer["meaning"]) == ("undefined_symbol", "other_torch")
    assert answer["facts"] == {"subject": SYMBOL, "file": "_C.abi3.so"}
    assert answer["torch"]["holds"] == ["2.10.0"]
    assert answer["remedies"][0] == {
        "code": "install",
        "requirements": ["vllm==0.19.1", "torch==2.10.0"],
        "command": apart("0.19.1", "2.10.0"),
        "what": None,
    }
    plain = matrix(tmp_path, "explain", ERROR).stdout
    assert [f"{name:<11}{text}" for name, text in answer["text"].items()] == plain.splitlines()


def test_json_has_the_wheels_with_code_for_a_gpu(tmp_path: Path) -> None:
    text = "x with CUDA capability sm_70 is not compatible with the current PyTorch installation."
    (answer,) = json.loads(matrix(tmp_path, "explain", "--json", text).stdout)["answers"]
    x86, arm = answer["code"]
    assert (x86["machine"], arm["machine"]) == ("x86_64", "aarch64")
    assert x86["torch"]["holds"] == ["2.9.0", "2.9.1", "2.10.0"] and not arm["torch"]["holds"]
    assert x86["vllm"]["holds"][-1] == "0.19.1"
    unread = x86["unread_torch"]["holds"], x86["unread_vllm"]["holds"]
    assert unread[0] == ["2.7.0", "2.7.1", "2.8.0"]
    assert (unread[1][0], unread[1][-1]) == ("0.9.0", "0.13.0")
    assert unread[0][-1] in x86["unread_torch"]["asked"]


def test_json_says_how_many_records_were_looked_through(tmp_path: Path) -> None:
    (answer,) = json.loads(matrix(tmp_path, "explain", "--json", SYMBOL).stdout)["answers"]
    assert (answer["records"], answer["looked"]) in (([], 0), (None, 0))
    (tmp_path / "records").mkdir()
    for name in ("a", "b"):
        (tmp_path / "records" / f"{name}.json").write_text('{"cell": 1}', encoding="utf-8")
    (answer,) = json.loads(matrix(tmp_path, "explain", "--json", SYMBOL).stdout)["answers"]
    assert (answer["records"], answer["looked"]) == ([], 2)


def test_errors_that_are_not_answered_are_counted_on_stderr(tmp_path: Path) -> None:
    text = "\n".join(f"x.so: undefined symbol: _ZN3c10{number}aEv" for number in range(20))
    (tmp_path / "records").mkdir()
    found = piped(tmp_path, text.encode())
    assert found.stdout.count("signature  ") == 8
    assert found.stderr == "matrix: 12 more errors in it, not shown\n"


def test_a_terminal_gets_nothing_that_it_would_act_on(tmp_path: Path) -> None:
    evil = f"\x1b]0;x\x07\x1b[31m{ERROR}\x1b[0m\u202e ::error::x"
    found = matrix(tmp_path, "explain", evil)
    assert found.returncode == 0
    assert all(line.isprintable() for line in found.stdout.splitlines())


def test_a_damaged_table_is_named_and_the_others_answer(tmp_path: Path) -> None:
    known = tables()
    for version in ("2.10.0", "2.11.0"):
        content = (known.folder / file_name("torch", version)).read_bytes()
        (tmp_path / file_name("torch", version)).write_bytes(
            content[: -7 if "11" in version else None]
        )
    with mock.patch("matrix.explain.evidence.load_tables", return_value=load_tables(tmp_path)):
        found = matrix(tmp_path, "explain", SYMBOL)
    assert found.returncode == 0
    assert "torch-2.11.0.table: damaged or cut short" in found.stderr


def test_a_text_that_no_path_can_be_is_a_text(tmp_path: Path) -> None:
    for text in ("x" * 5000, "a\0b", f"{'x/' * 3000}{SYMBOL}"):
        found = matrix(tmp_path, "explain", f"{text} {SYMBOL}")
        assert found.returncode == 0


def test_where_no_records_are_one_line_says_so(tmp_path: Path) -> None:
    found = matrix(tmp_path, "explain", SYMBOL)
    assert "records    none was looked through\n" in found.stdout
    (line,) = found.stderr.splitlines()
    assert line.startswith("matrix: no folder results or records here, so no record is read")
    # Records are named, so none is missed.
    (tmp_path / "r.json").write_text('{"cell": 1}', encoding="utf-8")
    assert not matrix(tmp_path, "explain", "--records", "r.json", SYMBOL).stderr


def test_one_record_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"cell": 1}', encoding="utf-8")
    found = matrix(tmp_path, "explain", "--records", "r.json", SYMBOL)
    assert "none of 1 record shows it" in found.stdout


def test_a_pipe_by_its_name_is_read(tmp_path: Path) -> None:
    """As `matrix explain <(dmesg)` names one."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = subprocess.Popen(["sh", "-c", f"echo '{ERROR}' > {path}"])
    found = matrix(tmp_path, "explain", "pipe")
    assert writer.wait(timeout=20) == 0
    assert found.returncode == 0


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("CUDA driver version is insufficient", "the driver is too old"),
        ("version GLIBC_2.32' not found", "glibc"),
        ("libc.so.6: version GLIBC_2.32 not found (required by x.so)", "glibc"),
        ("libstdc++.so.6: version CXXABI_1.3.15' not found", "CXXABI_1.3.15"),
        ("libcusparse.so.12: version libnvJitLink.so.12' not found", "libnvJitLink.so.12"),
    ],
)
def test_a_part_of_a_message_is_known_too(tmp_path: Path, text: str, means: str) -> None:
    found = matrix(tmp_path, "explain", text)
    assert (found.returncode, means in found.stdout) == (0, True), found.stdout
