"""What `upgrade` says that changes, and what it leaves behind."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

import advised
from advised import known, on_gpu
from made import failed, passed
from matrix.advice.left_behind import LeftKind, ReleasePackages, left_behind
from matrix.advice.upgrade import Upgrade, What, upgrade
from matrix.catalog.cells import Cell
from matrix.checks.resolution.cache import PLATFORM, Resolution
from matrix.report.advice.upgrade import content, lines
from matrix.rules.notes import parse_notes
from schemas import valid

REQUIREMENTS = {
    "0.19.0": (
        "torch==2.10.0",
        "flashinfer-python==0.6.6",
        "flashinfer-cubin==0.6.6",
        "gguf>=0.17; platform_machine == 'x86_64'",
        "Old_Only; python_version < '3.11'",
        "not a requirement",
    ),
    "0.20.0": ("torch==2.11.0", "flashinfer-python==0.6.14"),
}
NOTES = parse_notes(
    """
[[note]]
id = "a"
vllm = "==0.20.0"
text = "The first start hangs."
evidence = ["https://github.com/vllm-project/vllm/issues/1"]
""",
    "notes.toml",
)


def resolved(vllm: str, torch: str, **packages: str) -> Resolution:
    return Resolution(
        cell=Cell("3.12", torch, vllm),
        platform=PLATFORM,
        asked=date(2026, 11, 22),
        ok=True,
        packages={name.replace("_", "-"): version for name, version in packages.items()},
    )


def ask(*records: Any, old: str = "0.19.0", new: str = "0.20.0", python: str = "3.12") -> Upgrade:
    answers = advised.Told(
        {
            "0.19.0": resolved(
                "0.19.0", "2.10.0", nvidia_nccl_cu12="2.27.5", transformers="4.57.6", numpy="2.2.6"
            ),
            "0.20.0": resolved(
                "0.20.0", "2.11.0", nvidia_nccl_cu13="2.28.9", transformers="5.20.2", numpy="2.2.6"
            ),
        }
    )
    return upgrade(
        old,
        new,
        known(*records, answers=answers),
        python=python,
        requirements=REQUIREMENTS,
        notes=NOTES,
    )


def test_the_changes() -> None:
    found = ask()
    changes = {change.package or change.what: (change.old, change.new) for change in found.changes}
    assert changes[What.TORCH] == ("2.10.0", "2.11.0")
    assert changes[What.CUDA] == ("12.9", "13.0")
    assert changes[What.DRIVER] == ("525.60.13", "580.65.06")
    assert changes[What.GPU_CODE] == (None, "sm_80 sm_90")  # nobody read the wheel of 0.19.0
    assert changes["transformers"] == ("4.57.6", "5.20.2")
    assert "numpy" not in changes
    assert not found.is_downgrade and ask(old="0.20.0", new="0.19.0").is_downgrade


def test_what_an_upgrade_in_place_leaves_behind() -> None:
    left = {package.name: (package.kind, package.version) for package in ask().left}
    assert left == {
        "flashinfer-cubin": (LeftKind.OTHER_VERSION, "0.6.6"),
        "flashinfer-jit-cache": (LeftKind.BY_HAND, "0.6.6"),
        "nvidia-nccl-cu12": (LeftKind.OTHER_CUDA, "2.27.5"),
    }
    shares = {package.name: package.shares for package in ask().left if package.shares}
    assert shares == {"nvidia-nccl-cu12": "nvidia-nccl-cu13"}
    assert "scipy" not in left  # what requires it now is not known


def ran_with(torch: str, vllm: str, **packages: str) -> Any:
    """Return a run on a GPU in an environment with these packages."""
    named = {name.replace("_", "-"): version for name, version in packages.items()}
    return on_gpu(torch, passed(), vllm=vllm, python="3.12", packages={"torch": torch, **named})


def test_what_a_run_of_the_new_release_had_is_not_left_behind() -> None:
    def left(*records: Any, python: str = "3.12") -> dict[str, LeftKind]:
        return {package.name: package.kind for package in ask(*records, python=python).left}

    new = ran_with("2.11.0", "0.20.0", numpy="2.2.6")
    assert left(new)["gguf"] is LeftKind.UNUSED
    assert left(new, python="3.10")["old-only"] is LeftKind.UNUSED
    # What it requires only by another package is there as well.
    assert "gguf" not in left(ran_with("2.11.0", "0.20.0", gguf="0.17.0"))
    assert "gguf" not in left()


def known_packages(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("packages of vLLM")]


def test_packages_that_no_run_shows_are_named() -> None:
    some = (
        "packages of vLLM {}: not known beyond what it requires itself and a few that were resolved"
        " (no run); a run of the pair shows all"
    )
    assert known_packages(lines(ask())) == [some.format("0.19.0"), some.format("0.20.0")]
    runs = ran_with("2.10.0", "0.19.0"), ran_with("2.11.0", "0.20.0")
    assert known_packages(lines(ask(runs[0]))) == [some.format("0.20.0")]
    assert known_packages(lines(ask(*runs))) == []
    assert known_packages(lines(ask(runs[1], old="0.18.0"))) == [
        (
            "packages of vLLM 0.18.0: not known beyond what it requires itself (no run, no"
            " resolution); a run of the pair shows all"
        )
    ]


def packages(*requirements: str, **installed: str) -> ReleasePackages:
    named = {name.replace("_", "-"): version for name, version in installed.items()}
    return ReleasePackages(
        requirements=requirements, python="3.12", machine="x86_64", resolved={}, installed=named
    )


def test_of_what_a_run_had_only_the_libraries_of_gpus_count() -> None:
    old = packages("torch==2.10.0", nvidia_nvtx_cu12="12.8.90", jax="0.4", cuda_tile="1")
    new = packages("torch==2.11.0", nvidia_nvtx="13.0")
    assert [package.name for package in left_behind(old, new, "13.0")] == [
        "cuda-tile",
        "nvidia-nvtx-cu12",
    ]


def test_a_release_that_never_ran_leaves_only_what_is_certain() -> None:
    old = packages("torch==2.10.0", nvidia_nvtx_cu12="12.8.90", cuda_tile="1")
    new = packages("torch==2.11.0")
    assert [package.name for package in left_behind(old, new, "13.0")] == ["nvidia-nvtx-cu12"]


def test_nothing_is_left_of_the_same_packages() -> None:
    same = packages("torch==2.10.0", "flashinfer-python==0.6.6")
    assert left_behind(same, same, "12.8") == ()


def test_the_text() -> None:
    old = on_gpu("2.10.0", passed(cold=60.0, warm=10.0), vllm="0.19.0", python="3.12")
    text = [" ".join(line.split()) for line in lines(ask(old)).splitlines()]
    for line in (
        "upgrade of vLLM 0.19.0 to 0.20.0, wheels for x86_64, Python 3.12",
        "GPU code of vLLM not read sm_80 sm_90",
        "flashinfer-cubin 0.6.6: with another version than flashinfer-python, which rejects it",
        "uv pip uninstall flashinfer-cubin nvidia-nccl-cu12 flashinfer-jit-cache",
        "vLLM 0.20.0 with torch 2.11.0: no run on a GPU is known",
        "moe 60.0 10.0 -",
        "known issue: The first start hangs.",
    ):
        assert line in text


def test_without_runs_and_on_a_python_that_goes_the_text_says_so() -> None:
    text = lines(ask(python="3.10"))
    assert "vLLM 0.20.0 is not for Python 3.10" in text
    assert "before the upgrade" not in text and "uv pip uninstall" not in text
    assert "    uv venv vllm-0.20.0 --python 3.11" in text.splitlines()
    assert text.count("no run on a GPU is known") == 2


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({}, None),
        ({"jobs": 4}, "that of vLLM 0.19.0 ran 1 case at a time, that of 0.20.0 4"),
        ({"tests": {"commit": None, "fingerprint": "sha256:2"}}, "take different times"),
        ({"gpu": {**advised.H200, "name": "NVIDIA H100"}}, "the GPU or the processor is another"),
        ({"cpu": {"model": "EPYC", "cores": 64}}, "the GPU or the processor is another"),
    ],
)
def test_seconds_that_do_not_compare_are_not_shown(facts: dict[str, Any], why: str | None) -> None:
    found = ask(
        on_gpu("2.10.0", passed(), vllm="0.19.0"),
        on_gpu("2.11.0", passed(), vllm="0.20.0", provenance=facts),
    )
    text = " ".join(lines(found).split())
    assert (why is None) == ("60.0 10.0 60.0 10.0" in text)
    assert (why is None) == valid("upgrade", content(found))["seconds_compare"]
    if why is not None:
        assert f"The seconds of the two runs do not compare: {why}" in text.replace(
            "the startup tests of the two take", "take"
        )


def first(found: Upgrade) -> str:
    return lines(found).splitlines()[0]


def test_the_first_line_says_whether_the_new_pair_works_and_what_shows_it() -> None:
    ran = on_gpu("2.11.0", passed(), vllm="0.20.0", python="3.12")
    assert first(ask(ran)).startswith(
        "yes, in a new environment: vLLM 0.20.0 with torch 2.11.0 ran on NVIDIA H200"
    )
    assert first(ask()).startswith(
        "not known: vLLM 0.20.0 with torch 2.11.0 never ran on a GPU; by checks alone"
    )
    fails = on_gpu("2.11.0", failed(), vllm="0.20.0", python="3.12")
    assert first(ask(fails)).startswith("no: vLLM 0.20.0 with torch 2.11.0: fails at ")
    other = on_gpu("2.11.0", passed(), vllm="0.20.0", python="3.11", day=20)
    partly = first(ask(fails, other))
    assert partly.startswith("no, not on Python 3.12: ")
    assert partly.endswith("; a run on Python 3.11 does not")
    later = on_gpu("2.11.0", failed(), vllm="0.20.0", python="3.11", day=24)
    assert "1 case as expected" in first(ask(ran, later))
    assert "on Python 3.11: " in first(ask(ran, python="3.10"))
    assert "; take Python 3.11; " in first(ask(python="3.10"))
    values = valid("upgrade", content(ask(fails)))
    assert values["known"] == "fails" and values["text"].startswith("no: ")


def test_a_release_that_was_withdrawn_works_nowhere() -> None:
    ran = on_gpu("2.11.0", passed(), vllm="0.20.0", python="3.11")
    gone = advised.vllm("0.20.0", "2.11.0", yanked="broken")
    facts = known(ran, vllms=(*advised.VLLM[:2], gone))
    found = upgrade("0.19.0", "0.20.0", facts, python="3.12", requirements=REQUIREMENTS, notes=())
    assert first(found) == ("no: vLLM 0.20.0 with torch 2.11.0: its wheel was withdrawn: broken")
    assert valid("upgrade", content(found))["known"] == "fails"


def test_a_downgrade_speaks_of_no_upgrade_and_no_new_release() -> None:
    text = lines(ask(old="0.20.0", new="0.19.0"))
    assert "a downgrade in place leaves behind:" in text
    assert "upgrade" not in text.replace("downgrade", "") and "the new" not in text
