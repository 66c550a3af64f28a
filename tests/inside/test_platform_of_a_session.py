"""Which platform a session of startup tests is of: the option, the record, or a variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from matrix.inside.cpu_platform import PLATFORM_VARIABLE
from matrix.inside.pytest_plugin.record_file import RecordFile
from matrix.record.model import Platform


@pytest.fixture
def no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordFile:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv(PLATFORM_VARIABLE, raising=False)
    return RecordFile(None, tmp_path)


@pytest.mark.parametrize(
    ("asked", "variable", "platform"),
    [
        ("cuda", None, Platform.CUDA),
        ("cuda", "cpu", Platform.CUDA),
        ("auto", None, Platform.CPU),
        ("auto", "", Platform.CPU),
        ("auto", "cuda", Platform.CUDA),
    ],
)
def test_without_a_record_the_option_goes_before_the_variable(
    no_record: RecordFile,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    variable: str | None,
    platform: Platform,
) -> None:
    if variable is not None:
        monkeypatch.setenv(PLATFORM_VARIABLE, variable)
    assert no_record.platform(asked) is platform


def test_another_word_in_the_variable_is_refused(
    no_record: RecordFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLATFORM_VARIABLE, "rocm")
    with pytest.raises(pytest.UsageError, match=r"^MATRIX_PLATFORM=rocm: is not a platform; write"):
        no_record.platform("auto")
