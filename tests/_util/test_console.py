import os
import time

import pytest

from matrix._util import console
from matrix._util.console import patient, print_status, spoken


def test_a_line_is_one_safe_line_beside_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    print_status("a\x1b[31m case\nof  a record\x07")
    assert capsys.readouterr() == ("", "matrix: a case of a record\n")


def test_what_lasts_is_said_again_and_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ""
    monkeypatch.setattr(console, "_EVERY", 0.02)
    with spoken("waits for a node"):
        while said.count("\n") < 2:
            time.sleep(0.01)
            said += capsys.readouterr().err
    assert said.splitlines()[0] == "matrix: waits for a node, 0 s"
    capsys.readouterr()
    monkeypatch.setattr(console, "_EVERY", 600.0)
    with spoken("is quick"):
        pass
    assert capsys.readouterr() == ("", "")


def test_an_output_to_a_terminal_that_is_gone_goes_nowhere() -> None:
    master, slave = os.openpty()
    terminal = patient(os.fdopen(slave, "w"))
    print("seen", file=terminal, flush=True)
    os.close(master)
    for _ in range(2):
        print("not seen", file=terminal, flush=True)
    terminal.close()
    full = patient(os.fdopen(os.open("/dev/full", os.O_WRONLY), "w"))
    with pytest.raises(OSError, match="No space left"):
        print("refused", file=full, flush=True)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, full.fileno())  # so that it can be closed
    os.close(nowhere)
    full.close()
