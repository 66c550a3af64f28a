"""A refusal names what to do about what was given: a file, a cell, a release, an index."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import matrix

RECORD = "; name a record, the JSON file that a run of a cell wrote\n"


@pytest.mark.parametrize("command", ["show", "calibrate", "jit"])
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("README.md", "not a record: not JSON at line 1"),
        ("nofile", "cannot be read: No such file or directory"),
        ("folder", "cannot be read: Is a directory"),
        ("a.json", "not a record: has no key 'schema'"),
        ("b.json", "not a record: its bytes are not UTF-8 text"),
    ],
)
def test_what_is_not_a_record(tmp_path: Path, command: str, name: str, fault: str) -> None:
    (tmp_path / "README.md").write_text("# Read me\n", encoding="utf-8")
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe{")
    (tmp_path / "folder").mkdir()
    done = matrix(tmp_path, command, name)
    assert done.returncode == 2
    assert done.stderr.startswith(f"matrix: {name}: {fault}") and done.stderr.endswith(RECORD)


def test_a_record_that_was_cut_is_made_by_a_run(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"schema": 1, "cell', encoding="utf-8")
    done = matrix(tmp_path, "show", "a.json")
    assert done.returncode == 2 and done.stderr.endswith("; run the cell again\n")


@pytest.mark.parametrize("command", ["explain --wheel", "wheels --read", "linkage --read"])
@pytest.mark.parametrize("name", ["nope.whl", "nope-1.0-py3-none-any.whl", "folder.whl"])
def test_a_wheel_that_is_not_there(tmp_path: Path, command: str, name: str) -> None:
    (tmp_path / "folder.whl").mkdir()
    done = matrix(tmp_path, *command.split(), name)
    fault = "is not a file" if name == "folder.whl" else "no such file"
    assert done.returncode == 2
    assert done.stderr.startswith(f"matrix: {name}: {fault}; name the file of a wheel")


@pytest.mark.parametrize(
    ("command", "end"),
    [
        ("doctor py311torch210", "; did you mean 'py311-torch210'?"),
        ("qualify 2.12.1", "; write --torch 2.12.1 --baseline VERSION"),
        ("qualify 0.20", "; write --vllm 0.20 --baseline VERSION"),
        ("qualify torch==2.9.0", "not a candidate; write --torch 2.9.0 --baseline VERSION"),
        *(
            (
                f"qualify {text}",
                (
                    "is a release of torch, whose newest patch is 2.9.1, and not a candidate; write"
                    " --torch 2.9 --baseline VERSION"
                ),
            )
            for text in ("2.9", "torch==2.9", "torch-2.9", "torch29")
        ),
        ("qualify vllm020", "; write --vllm 0.20 --baseline VERSION"),
        (
            "candidate add torch216rc1 --index foo/bar",
            (
                "--index foo/bar: is not a channel of torch; the channels are test, nightly; or"
                " write the address of an index"
            ),
        ),
    ],
)
def test_a_name_of_another_form(tmp_path: Path, command: str, end: str) -> None:
    done = matrix(tmp_path, *command.split())
    assert done.returncode == 2
    assert done.stderr.endswith(f"{end}\n") and done.stderr.count("\n") == 1
