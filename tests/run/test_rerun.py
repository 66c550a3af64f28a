from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from matrix.record.model import Platform
from matrix.run import rerun as module
from matrix.run.rerun import Rerun, RerunError, command, run_all, shown

RUN = Rerun(
    name="py311-torch212-vllm020",
    platform=Platform.CPU,
    cases=("moe_startup[mega_aot=0]", "moe_startup[mega_aot=1]"),
)
OTHER = Rerun(name="py311-torch213-vllm020", platform=Platform.CPU)


@pytest.fixture
def tox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a tox that notes its call, and ends as a file next to it asks: status or record.

    `1` ends with that status, `1r` leaves a record of the cell before, `1x` another file.
    """
    script = tmp_path / "tox"
    script.write_text(
        f"#!{sys.executable}\nimport json, pathlib, sys\n"
        "here = pathlib.Path(__file__).parent\n"
        "with open(here / 'calls', 'a') as file:\n"
        "    file.write(json.dumps(sys.argv[1:]) + '\\n')\n"
        "print('tox speaks')\n"
        "first, *rest = (here / 'does').read_text().split()\n"
        "(here / 'does').write_text(' '.join(rest))\n"
        "folder = here / 'records' / 'cpu'\n"
        "folder.mkdir(parents=True, exist_ok=True)\n"
        "if first.endswith('r'):\n"
        "    (folder / f'{sys.argv[2]}.{len(rest)}.json').write_text('{}')\n"
        "if first.endswith('x'):\n"
        "    (folder / f'{sys.argv[2]}.{len(rest)}.notjson').write_text('{}')\n"
        "sys.exit(int(first.rstrip('rx')))\n"
    )
    script.chmod(0o755)
    (tmp_path / "tox.ini").write_text("[tox]\n")
    monkeypatch.setattr(module, "tox_command", lambda: [str(script)])
    return tmp_path


def test_a_run_is_of_its_cases_alone() -> None:
    # pytest's -k knows no equals sign.
    assert command(RUN)[-3:] == ["cpu", "-k", "moe_startup[mega_aot"]
    assert "-k" not in command(replace(RUN, cases=("", "a")))
    assert shown(replace(RUN, platform=Platform.CUDA, cases=(), flags=(("VLLM_X", "0"),))) == (
        "tox -e py311-torch212-vllm020 -x testenv:py311-torch212-vllm020.set_env+=VLLM_X=0"
        " -- --platform cuda"
    )


def test_a_fresh_run_makes_its_environment_again() -> None:
    assert shown(replace(OTHER, fresh=True)) == (
        "tox -r --no-recreate-provision -e py311-torch213-vllm020 -- --platform cpu"
    )


def test_every_run_is_run_and_a_failure_is_reported(
    tox: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tox / "does").write_text("1r 2 5r 0r")
    runs = [RUN, OTHER, RUN, RUN]
    (failure,) = run_all(runs, tox)
    assert failure.startswith("py311-torch213-vllm020 on cpu: tox ended with 2 after ")
    calls = [json.loads(line) for line in (tox / "calls").read_text().splitlines()]
    assert calls == [command(run)[1:] for run in runs]
    out, err = capfd.readouterr()
    assert out == ""
    assert "matrix: 2 of 4: tox -e py311-torch213-vllm020 -- --platform cpu\n" in err
    assert "tox speaks" in err


@pytest.mark.parametrize("does", ["0", "1", "5", "1x"])
def test_what_left_no_record_did_not_run(
    tox: Path, does: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """tox ends with 1 too where it cannot make the environment, and then nothing was told."""
    folder = tox / "records" / "cpu"
    folder.mkdir(parents=True)
    for name in (RUN.name, f"{RUN.name}1"):
        (folder / f"{name}.0.json").write_text("{}")  # of an earlier run, or of another cell
    (tox / "does").write_text(does)
    (failure,) = run_all([RUN], tox)
    assert f"tox ended with {does.rstrip('x')} after " in failure
    assert "and left no new record in records" in failure
    assert " ran in " not in capfd.readouterr().err


def test_a_dry_run_prints_and_runs_nothing(tox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_all([RUN], tox, dry=True) == []
    assert capsys.readouterr().out == shown(RUN) + "\n"
    assert not (tox / "calls").exists()


def test_the_name_of_a_case_gives_a_terminal_and_ci_no_command(
    tox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_all([replace(OTHER, cases=("a\x1b[31m\n::error::b",))], tox, dry=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable() and "a ::error::b" in line


def test_nothing_to_run_needs_no_tox(tmp_path: Path) -> None:
    assert run_all([], tmp_path) == []


def test_outside_of_a_checkout_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(RerunError, match=r"no tox\.ini there"):
        run_all([RUN], tmp_path)


def test_without_tox_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tox.ini").write_text("")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(RerunError, match="tox is not installed"):
        run_all([RUN], tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: str(tmp_path / "gone"))
    with pytest.raises(RerunError, match="gone: cannot be started"):
        run_all([RUN], tmp_path)
