import time

import pytest

from matrix._util.console import print_status, spoken


def test_a_line_is_one_safe_line_beside_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    print_status("a\x1b[31m case\nof  a record\x07")
    assert capsys.readouterr() == ("", "matrix: a case of a record\n")


def test_what_lasts_is_said_again_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    said = ""
    with spoken("waits for a node", every=0.02):
        while said.count("\n") < 2:
            time.sleep(0.01)
            said += capsys.readouterr().err
    assert said.splitlines()[0] == "matrix: waits for a node, 0 s"
    capsys.readouterr()
    with spoken("is quick"):
        pass
    assert capsys.readouterr() == ("", "")
