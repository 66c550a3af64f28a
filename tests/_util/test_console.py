import pytest

from matrix._util.console import print_status


def test_a_line_is_one_safe_line_beside_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    print_status("a\x1b[31m case\nof  a record\x07")
    assert capsys.readouterr() == ("", "matrix: a case of a record\n")
