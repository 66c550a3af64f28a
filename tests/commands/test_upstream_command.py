"""`matrix upstream` and what `matrix check` makes of upstream's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from matrix import cli
from matrix.rules.upstream.file import UPSTREAM_FILE, load_upstream

if TYPE_CHECKING:
    from local_index import Served

TESTS = "tests/compile/test_startup.py"
SOURCE = """
from vllm.compilation.counter import compilation_counter

def test_moe_startup(monkeypatch, vllm_runner):
    monkeypatch.setenv("VLLM_USE_MEGA_AOT_ARTIFACT", "0")
    with vllm_runner("a/model"), compilation_counter.expect(num_compiled_artifacts_saved=NUMBER):
        pass
"""
LINK = f"https://github.com/vllm-project/vllm/blob/v0.33.0/{TESTS}"
ENVS = (
    "import os\nenvironment_variables = {'VLLM_USE_MEGA_AOT_ARTIFACT':"
    " lambda: os.getenv('VLLM_USE_MEGA_AOT_ARTIFACT', '0') == '1'}\n"
)


def add(served: Served, version: str, number: str) -> None:
    members = {TESTS: SOURCE.replace("NUMBER", number), "vllm/envs.py": ENVS}
    served.add("vllm", f"vllm-{version}.tar.gz", served.sdist(f"vllm-{version}", members))


def test_it_reads_prints_what_changed_and_tells_by_its_status(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "upstream.json"
    asked = ["upstream", "--index", served.url, "--upstream", str(path)]
    add(served, "0.20.0", "3")
    add(served, "0.21.0", "4")
    assert cli.main(asked) == 0
    out = capsys.readouterr()
    assert (out.err, out.out.splitlines()) == (
        "",
        [
            "vLLM 0.21.0  number  test_moe_startup, cold  num_compiled_artifacts_saved 4 (was 3)",
            f"{path}: 2 releases, 2 read, 1 change",
        ],
    )
    add(served, "0.22.0", "len(layers)")
    assert cli.main(asked) == 2
    out = capsys.readouterr()
    assert out.err.startswith(f"matrix: vLLM 0.22.0: {TESTS}:6: ") and out.err.count("\n") == 1
    assert out.out.splitlines()[-1] == (
        f"{path}: 3 releases, 1 read, 1 change; not all was read of 0.22.0; 1 failed"
    )
    assert cli.main([*asked, "--all", "--jobs", "1"]) == 2
    assert "3 releases, 3 read" in capsys.readouterr().out


def check(
    path: Path, saved: int, capsys: pytest.CaptureFixture[str], end: str = "0.34"
) -> tuple[int, str, str]:
    rules = path.with_name("rules.toml")
    rules.write_text(
        f'[[rule]]\nid = "moe"\ncase = "moe_startup"\nstart = "cold"\nplatform = "cuda"\n'
        f'vllm = "<{end}"\ntorch = "<2.15"\nevidence = ["{LINK}"]\n'
        f"counters = {{ num_compiled_artifacts_saved = {saved} }}\n"
    )
    status = cli.main(["check", "--expectations", str(rules), "--upstream", str(path)])
    out = capsys.readouterr()
    return status, out.out, out.err


def read_upstream(
    served: Served,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    saved: str,
    status: int = 0,
) -> Path:
    """Return the file that `matrix upstream` wrote of vLLM 0.33.0, whose test says `saved`."""
    path = folder / "upstream.json"
    add(served, "0.33.0", saved)
    assert cli.main(["upstream", "--index", served.url, "--upstream", str(path)]) == status
    capsys.readouterr()
    return path


def test_check_fails_where_a_rule_contradicts_upstream(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = read_upstream(served, tmp_path, capsys, "3")
    status, out, err = check(path, 3, capsys)
    assert (status, err) == (0, "")
    assert " of 1 release: " in out and " agree, 0 contradict, 1 are beyond the end of" in out
    status, out, err = check(path, 4, capsys)
    assert status == 1
    assert " 0 agree, " in out
    assert err.startswith(
        f"matrix: {tmp_path}/rules.toml: rule 'moe': num_compiled_artifacts_saved"
    )
    assert err.count("\n") == 1


def test_check_refuses_a_rule_that_goes_beyond_its_evidence(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = read_upstream(served, tmp_path, capsys, "3")
    assert check(path, 3, capsys, end="0.35")[::2] == (
        1,
        (
            f"matrix: {tmp_path}/rules.toml: rule 'moe': vllm: <0.35, and its evidence on cuda ends"
            " with vLLM 0.33; end the rule with <0.34\n"
        ),
    )


def test_check_says_what_was_not_read(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = read_upstream(served, tmp_path, capsys, "len(layers)", status=2)
    _, out, _ = check(path, 3, capsys)
    assert f"              not read of vLLM 0.33.0: {TESTS}:6: " in out


def test_check_refuses_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "upstream.json"
    path.write_text("[]")
    assert check(path, 3, capsys)[::2] == (
        2,
        f"matrix: {path}: is not an object; restore it, or run `matrix upstream --all`\n",
    )


def test_the_package_holds_each_release_that_it_knows() -> None:
    assert len(load_upstream(UPSTREAM_FILE).releases) >= 26
