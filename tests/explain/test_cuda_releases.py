"""What a CUDA needs of a machine, by data/cuda.toml."""

from pathlib import Path

import pytest

from matrix.explain.cuda import CudaError, load_cuda

ROW = '[[cuda]]\nversion = "13.0"\ndriver = "580"\nevidence = ["https://x"]\n'


def test_the_file_of_the_package_says_who_runs_what() -> None:
    cuda = load_cuda()
    assert (cuda.driver("12.9"), cuda.driver("13.2")) == ("525", "580")
    assert cuda.driver("99.0") is None
    assert (cuda.since("sm_90a"), cuda.since("sm_120"), cuda.since("sm_999")) == (
        "11.8",
        "12.8",
        None,
    )
    assert (cuda.until("sm_70"), cuda.until("sm_90")) == ("13.0", None)
    assert cuda.knows("12.8", "sm_70")
    assert not cuda.knows("13.0", "sm_70")
    assert not cuda.knows("12.6", "sm_120")
    assert not cuda.knows("13.0", "sm_999")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[cuda]\n", "is not TOML"),
        ('[[cuda]]\nversion = "13.0"\n', r"cuda 1: driver: is missing"),
        (ROW.replace('"13.0"', "13"), r"cuda 1: version: 13 is not a release"),
        (f'{ROW}adds = ["120"]\n', r'cuda 1: adds: is not a list such as \["sm_120"\]'),
        (f'{ROW}removes = "sm_70"\n', "cuda 1: removes: is not a list"),
        (ROW.replace('["https://x"]', "[]"), "cuda 1: evidence: is not a list of links"),
        (f"{ROW}extra = 1\n", "cuda 1: extra: unknown key"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cuda.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CudaError, match=message):
        load_cuda(path)
