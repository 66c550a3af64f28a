from __future__ import annotations

import doctest
import json
import sys
from pathlib import Path

import pytest

from matrix.engines import reruns as module
from matrix.engines.reruns import Rerun, RerunError, command, run_all, shown

RUN = Rerun("py311-torch212-vllm020", "cpu", ("moe_startup[mega_aot=0]", "moe_startup[mega_aot=1]"))


@pytest.fixture
def tox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tox that notes how it was called, and ends with the status in a file beside it."""
    script = tmp_path / "tox"
    script.write_text(
        f"#!{sys.executable}\nimport json, pathlib, sys\n"
        "here = pathlib.Path(__file__).parent\n"
        "with open(here / 'calls', 'a') as file:\n"
        "    file.write(json.dumps(sys.argv[1:]) + '\\n')\n"
        "print('tox speaks')\n"
        "statuses = (here / 'statuses').read_text().split()\n"
        "(here / 'statuses').write_text(' '.join(statuses[1:]))\n"
        "sys.exit(int(statuses[0]))\n"
    )
    script.chmod(0o755)
    (tmp_path / "tox.ini").write_text("[tox]\n")
    monkeypatch.setattr(module, "_tox", lambda: [str(script)])
    return tmp_path


def test_a_run_is_of_its_cases_alone() -> None:
    # pytest's -k knows no equals sign.
    assert command(RUN)[-3:] == ["cpu", "-k", "moe_startup[mega_aot"]
    assert "-k" not in command(Rerun("py311-torch212-vllm020", "cpu", ("", "a")))
    assert shown(Rerun("py311-torch212-vllm020", "cuda", (), (("VLLM_X", "0"),))) == (
        "tox -e py311-torch212-vllm020 -x testenv:py311-torch212-vllm020.set_env+=VLLM_X=0"
        " -- --platform cuda"
    )


def test_each_is_run_and_a_failure_is_said(tox: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tox / "statuses").write_text("1 2 5 0")
    runs = [RUN, Rerun("py311-torch213-vllm020", "cpu"), RUN, RUN]
    (failure,) = run_all(runs, tox)
    assert failure.startswith("py311-torch213-vllm020 on cpu: tox ended with 2 after ")
    calls = [json.loads(line) for line in (tox / "calls").read_text().splitlines()]
    assert calls == [command(run)[1:] for run in runs]
    out, err = capfd.readouterr()
    assert out == ""
    assert "matrix: 2 of 4: tox -e py311-torch213-vllm020 -- --platform cpu\n" in err
    assert "tox speaks" in err


def test_a_dry_run_prints_and_runs_nothing(tox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_all([RUN], tox, dry=True) == []
    assert capsys.readouterr().out == shown(RUN) + "\n"
    assert not (tox / "calls").exists()


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


def test_the_examples_hold() -> None:
    assert doctest.testmod(module).failed == 0
