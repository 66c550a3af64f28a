"""A wrong argument is one line, without the usage."""

from pathlib import Path

import pytest

from command import matrix


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("grid --width no", "grid: --width: 'no' is not a number of columns from 20 to 9999"),
        ("show", "show: the following arguments are required: RECORD"),
        ("results list --torch", "results list: --torch: expected one argument"),
        ("qualify --torch 2 --vllm 1", "qualify: --vllm: not allowed with argument --torch"),
        ("plan --max-jobs 2", "plan: --max-jobs: goes with --format"),
    ],
)
def test_a_wrong_argument_is_named_without_the_usage(
    tmp_path: Path, arguments: str, line: str
) -> None:
    ended = matrix(tmp_path, *arguments.split())
    command = line.partition(":")[0]
    assert ended.stderr == f"matrix {line}; `matrix {command} --help` shows what it takes\n"
    assert (ended.returncode, ended.stdout) == (2, "")
