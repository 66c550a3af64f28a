"""The command `matrix qualify`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from made import Told, failed, make, passed
from matrix import cli
from matrix.commands import context
from matrix.qualify.model import FailureKind
from matrix.record.writer import write
from qualifications import (
    NEXT,
    OLD,
    SCHEMA,
    TODAY,
    waiver,
)

ROOT = Path(__file__).parents[2]


def here_with(folder: Path, *records: Told) -> None:
    for path, record in records:
        write(record, folder / path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.toml").write_text("")
    monkeypatch.setattr(context, "today", lambda: TODAY)
    return tmp_path


ASK = ["qualify", "--torch", NEXT, "--baseline", OLD, "--expectations", "rules.toml"]


def test_the_exit_status_is_the_answer(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here_with(here, make(OLD, passed()), make(NEXT, passed()))
    assert cli.main([*ASK, "--platform", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("torch 2.12.1 against 2.11.0 on cpu: qualified\n")
    here_with(here, make(NEXT, failed()))
    assert cli.main(ASK) == 1
    assert cli.main([*ASK, "--platform", "cuda"]) == 3
    assert cli.main([*ASK, "--python", "3.12"]) == 3
    assert cli.main([*ASK, "--under", "0.19"]) == 3
    here_with(here, make(OLD, passed(), passed("b")), make(NEXT, failed(), passed("b")))
    (here / "w.toml").write_text(waiver("signature = 'KeyError: x'"))
    capsys.readouterr()
    assert cli.main([*ASK, "--waivers", "w.toml"]) == 0
    ended = capsys.readouterr()
    assert (ended.err, "waived by known" in ended.out) == ("", True)


def test_a_minor_release_is_its_newest_patch(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """2.12 is 2.12.1 here as in the name of a cell, and not 2.12.0, which nothing runs."""
    here_with(here, make(OLD, passed()), make(NEXT, passed()))
    asked = ["qualify", "--torch", "2.12", "--baseline", "2.11", "--expectations", "rules.toml"]
    assert cli.main([*asked, "--platform", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("torch 2.12.1 against 2.11.0 on cpu: qualified\n")
    assert cli.main(["qualify", "--torch", "2.99", *asked[3:]]) in (2, 3)
    assert "2.99" in "".join(capsys.readouterr())


def test_markdown_and_json_are_of_the_same(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here_with(here, make(OLD, passed()), make(NEXT, failed()))
    assert cli.main([*ASK, "--json", "results"]) == 1
    found = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA).validate(found)
    assert (found["verdict"], found["failures"][0]["kind"]) == (
        "not qualified",
        FailureKind.REGRESSION,
    )
    assert found["cells"][0]["candidate"]["record"] == "results/cpu/py311-torch212-vllm020.json"
    assert cli.main([*ASK, "--markdown"]) == 1
    assert capsys.readouterr().out.startswith("## ❌ torch 2.12.1 against 2.11.0 on cpu")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--torch", "2.12.7", "--baseline", OLD],
            "--torch 2.12.7: is not a known release of torch",
        ),
        (["--torch", "new", "--baseline", OLD], "--torch 'new': is not a release; write it as"),
        (["--torch", OLD, "--baseline", "old"], "--baseline 'old': is not a release; write it as"),
        (["--torch", OLD, "--baseline", OLD], "--baseline 2.11.0: is the candidate itself"),
        (["--torch", NEXT, "--baseline", OLD, "--under", "x y"], "--under 'x y': is neither"),
        (["--torch", NEXT, "--baseline", OLD, "--waivers", "w.toml"], "w.toml: waiver 'w': until"),
    ],
)
def test_a_bad_question_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    here_with(here, make(OLD, passed()), make(NEXT, passed()))
    (here / "w.toml").write_text(waiver("signature = 'x'", until="'soon'", name="w"))
    assert cli.main(["qualify", *arguments]) == 2
    ended = capsys.readouterr()
    assert ended.out == ""
    assert ended.err.startswith(f"matrix: {text}") and ended.err.count("\n") == 1


def test_without_any_record_there_is_no_question(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(ASK) == 2
    assert "; `matrix run CELL`" in capsys.readouterr().err


def test_a_record_of_another_schema_is_named_and_never_qualifies(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here_with(here, make(OLD, passed()), make(NEXT, passed()))
    path = here / "results" / "cpu" / "py312-torch212-vllm020.json"
    newer = (here / "results" / "cpu" / "py311-torch212-vllm020.json").read_text()
    path.write_text(newer.replace('"schema": 3', '"schema": 4'))
    assert cli.main(ASK) == 2
    ended = capsys.readouterr()
    assert "schema: is 4, newer than this matrix knows (3)" in ended.err
    assert ended.out.startswith("torch 2.12.1 against 2.11.0 on cpu: not enough evidence\n")
    here_with(here, make(NEXT, failed()))
    assert cli.main(ASK) == 1


def test_check_reads_the_waivers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "w.toml").write_text(waiver("signature = 'x'", until="2026-11-22"))
    assert cli.main(["check", "--waivers", "w.toml"]) == 0
    assert "waivers       1 known failures that are accepted, expired: known" in (
        capsys.readouterr().out
    )
    (here / "w.toml").write_text("[[waiver]]\nid = 'w'\nbecause = 'x'")
    assert cli.main(["check", "--waivers", "w.toml"]) == 2
    assert "matrix: w.toml: waiver 'w': because: unknown key" in capsys.readouterr().err


def test_the_published_data_cannot_ask_torch_212_of_a_vllm_of_211(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """vLLM 0.20 to 0.26 are built for torch 2.11.0, and no vLLM pins torch 2.12."""
    ask = [*ASK, "--platform", "cuda", "--json", str(ROOT / "results")]
    assert cli.main(ask) == 3
    found = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA).validate(found)
    cells = {unknown["cell"]: unknown for unknown in found["unknown"]}
    ran = {path.stem for path in (ROOT / "results" / "cuda").glob("py312-torch211-vllm???.json")}
    assert {"py312-torch211-vllm020", "py312-torch211-vllm026", "py312-torch211-vllm028"} <= ran
    assert cells.keys() == {name.replace("torch211", "torch212") for name in ran}
    links = {name for name, unknown in cells.items() if unknown["rung"] == "links"}
    # What links under both, off-pin, nobody ran under torch 2.12.
    assert cells.keys() - links == {"py312-torch212-vllm028", "py312-torch212-vllm032"}
    signature = cells["py312-torch212-vllm020"]["signature"]
    assert "at::cuda::getCurrentCUDABlasHandle()" in signature
    linked = [row["releases"] for row in found["rungs"] if row["candidate"]["passed"] == "links"]
    assert [release for release in linked[0] if release in ("0.28.0", "0.32.0")] == [
        "0.28.0",
        "0.32.0",
    ]
