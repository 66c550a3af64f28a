"""matrix.catalog.constraints: what a cell's environment asks for beyond its pins."""

from __future__ import annotations

from dataclasses import replace

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from matrix import cli
from matrix.catalog.constraints import ConstraintsError, load_constraints, parse_constraints
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.catalog.tox_ini import block

GOOD = """\
[[constraint]]
requirement = "cuda-python>=13"
vllm = ">=0.31,<0.33"
reason = \"\"\"
Both own
the same files.\"\"\"
evidence = ["results/cuda/py312-torch213-vllm032.json"]
"""
BARE = replace(load_releases(), constrained=())


def constrained(text: str = GOOD) -> Releases:
    return replace(BARE, constrained=parse_constraints(text, "c.toml"))


def test_a_constraint_is_of_the_releases_that_it_names() -> None:
    releases = constrained()
    assert [row.reason for row in releases.constrained] == ["Both own the same files."]
    found = {row.version: releases.constraints(row.version) for row in releases.vllm}
    assert {version for version, wanted in found.items() if wanted} == {"0.31.0", "0.32.0"}
    assert found["0.32.0"] == ("cuda-python>=13",)


def test_tox_installs_a_constraint_on_pin_and_off_pin() -> None:
    before, after = block(BARE).splitlines(), block(constrained()).splitlines()
    more = [line.split(": ") for line in after if line not in before]
    assert all(wanted.strip() == "cuda-python>=13" for _, wanted in more)
    factors = {factor.strip() for factor, _ in more}
    # 0.32 is the newest of torch 2.13, whose short name has no factor of vLLM.
    assert {"vllm031", "vllm032"} < factors
    assert any("!vllm031" in factor for factor in factors)
    assert len(more) == 4


def test_the_packages_own_data_takes_no_older_cuda_python_than_the_bindings() -> None:
    (found,) = (row for row in load_constraints() if row.covers("0.32.0"))
    wanted = Requirement(found.requirement)
    assert (wanted.name, wanted.specifier.contains(Version("12.6.2.post1"))) == (
        "cuda-python",
        False,
    )
    assert found.covers("0.33.0") and not found.covers("0.26.0")


def test_check_names_the_constraints(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check"]) == 0
    shown = capsys.readouterr().out
    (constraint,) = load_releases().constrained
    assert f"constraints   vLLM {constraint.vllm.text} with cuda-python>=13\n" in shown


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cuda-python>=13", "cuda python", r"constraint 1: requirement: 'cuda python' is not a"),
        ("cuda-python>=13", "cuda-python", "has no range of versions"),
        ("cuda-python>=13", "cuda-python @ https://e.org/a.whl", "has no range of versions"),
        ("cuda-python>=13", "Torch>=2", "a cell pins Torch already"),
        ('"cuda-python>=13"', "13", "has no range of versions"),
        (">=0.31,<0.33", "recent", "vllm: "),
        ("reason", "resaon", "did you mean 'reason'"),
        ('evidence = ["results/cuda/py312-torch213-vllm032.json"]', "", "evidence: is missing"),
        ('["results/cuda/py312-torch213-vllm032.json"]', "[]", "evidence: is not a list"),
        ("[[constraint]]", "[[note]]", "begin each with"),
    ],
)
def test_a_constraint_that_cannot_be_read_is_refused(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConstraintsError, match=message) as refused:
        parse_constraints(GOOD.replace(old, new), "c.toml")
    assert str(refused.value).startswith("c.toml: ") and "\n" not in str(refused.value)


def test_the_effect_may_be_left_out() -> None:
    row = '[[constraint]]\nrequirement = "a>=1"\nvllm = ">=0.32"\nreason = "b"\nevidence = ["c"]\n'
    assert parse_constraints(row, "file")[0].effect is None
    assert parse_constraints(f'{row}effect = "d"\n', "file")[0].effect == "d"
