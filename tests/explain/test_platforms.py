"""What an installer says of wheels that are not for this platform."""

import pytest

from explained import apart, commands, lines, only
from matrix.explain.model import FaultKind

NEWEST = apart("0.33.0", "2.14.0", "cuda-python>=13")
OLD_GLIBC = """\
  × No solution found when resolving dependencies:
  ╰─▶ Because {name}=={version} has no wheels with a matching platform tag
      (e.g., `manylinux_{glibc}_x86_64`) and you require {name}=={version}, we can
      conclude that your requirements are unsatisfiable.

      hint: Wheels are available for `{name}` (v{version}) on the following
      platforms: `manylinux_{least}_aarch64`, `manylinux_{least}_x86_64`
"""


@pytest.mark.parametrize(
    ("name", "version", "glibc", "least", "command"),
    [
        ("vllm", "0.20.2", "2_31", "2_35", [NEWEST]),
        ("vllm", "0.19.1", "2_28", "2_31", [NEWEST]),
        ("torch", "2.11.0", "2_17", "2_28", []),
    ],
)
def test_wheels_for_a_newer_glibc(
    name: str, version: str, glibc: str, least: str, command: list[str]
) -> None:
    text = OLD_GLIBC.format(name=name, version=version, glibc=glibc, least=least)
    answer = only(text)
    wanted = f"GLIBC_{least.replace('_', '.')}"
    assert (answer.fault.kind, answer.fault.subject) == (FaultKind.OLD_LIBRARY, wanted)
    assert commands(answer) == command
    shown = lines(text)
    assert shown["means"] == (
        f"the system has an older library than {wanted}, which {name} {version} was built against"
    )
    assert f"take a system, or a container, that has {wanted}" in shown["to do"]


@pytest.mark.parametrize("hint", ["", "`manylinux_2_28_aarch64`", "`manylinux_2_28_x86_64`"])
def test_wheels_that_are_not_there_for_another_reason_than_glibc(hint: str) -> None:
    text = (
        "error: Distribution `vllm==0.33.0 @ registry+https://a` can't be installed because it"
        " doesn't have a source distribution or wheel for the current platform\n\nhint: You're on"
        " Linux (`manylinux_2_31_x86_64`), but `vllm` (v0.33.0) only has wheels for the following"
        f" platform: {hint}"
    )
    assert lines(text)["means"] == (
        "the index that was asked has no vllm==0.33.0 for this Python and platform; it is"
        " published: 0.33.0"
    )


def test_a_nightly_build_is_no_release_without_its_local_version() -> None:
    text = "No matching distribution found for vllm==0.23.1rc1.dev1403+g4080263bb.cu129"
    assert "PyPI has the release" not in lines(text)["means"]
    assert lines(text)["releases"] == "no such vLLM is known here"
    local = "No matching distribution found for vllm==0.23.0+cu129"
    assert "PyPI has the release without it" in lines(local)["means"]


REFUSED = "ERROR: {} is not a supported wheel on this platform."


@pytest.mark.parametrize(
    ("file", "means"),
    [
        ("vllm-0.33.0-cp38-abi3-manylinux_2_28_x86_64.whl",
         "CPython 3.8 or newer, and for Linux on x86_64 with glibc 2.28 or newer"),
        ("torch-2.15.0-cp313-cp313t-macosx_14_0_arm64.whl",
         "free-threaded CPython 3.13, and for macOS 14.0 or newer on arm64"),
        ("flash_attn-2.8.3-cp312-cp312-linux_x86_64.whl", "CPython 3.12, and for Linux on x86_64"),
        ("x-1-cp312-cp312-win_amd64.whl", "CPython 3.12, and for Windows (win_amd64)"),
        ("x-1-py3-none-any.whl", "any Python 3, and for any platform"),
        ("x-1-pp310-pypy310_pp73-musllinux_1_2_x86_64.whl",
         "the Python pp310, and for the platform musllinux_1_2_x86_64"),
    ],
)  # fmt: skip
def test_a_wheel_that_pip_refuses_is_for_another_python_or_platform(file: str, means: str) -> None:
    text = REFUSED.format(file)
    assert only(text).fault.file == file
    assert lines(text)["means"].startswith(f"the wheel is for {means}: ")
    assert commands(only(text))[0] == "python -m pip debug --verbose"


def test_the_wheels_that_there_are_are_named() -> None:
    text = REFUSED.format("vllm-0.33.0-cp38-abi3-manylinux_2_28_x86_64.whl")
    assert lines(text)["releases"] == (
        "PyPI has wheels of vLLM 0.33.0 for manylinux_2_28_aarch64 (cp38-abi3),"
        " manylinux_2_28_x86_64 (cp38-abi3); every wheel of vLLM on PyPI that is known here is for"
        " Linux"
    )
    assert commands(only(text))[1:] == [NEWEST]
    other = REFUSED.format("torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl")
    assert commands(only(other))[1:] == [apart("0.26.0", "2.11.0")]
    assert commands(only(REFUSED.format("x-1-py3-none-any.whl")))[1:] == []
    assert lines(REFUSED.format("x-1-py3-none-any.whl"))["releases"] == "not known"


def test_a_file_whose_name_is_no_wheels_is_unknown() -> None:
    assert only(REFUSED.format("mine.whl")).fault.kind is FaultKind.UNKNOWN


NO_TAG = """\
  × No solution found when resolving dependencies:
  ╰─▶ Because all versions of cuda-tile have no wheels with a matching Python ABI tag
      (e.g., `cp314`) and flashinfer-python==0.6.8.post1 depends on cuda-tile, we can
      conclude that flashinfer-python==0.6.8.post1 cannot be used.
      And because vllm==0.21.0 depends on flashinfer-python==0.6.8.post1 and you require
      vllm==0.21, we can conclude that your requirements are unsatisfiable.
"""
HINT = (
    "hint: You require CPython 3.14 (`cp314`), but we only found wheels for `cuda-tile` (v1.3.0)"
    " with the following Python ABI tags: `cp310`, `cp311`, `cp312`, `cp313`"
)


@pytest.mark.parametrize("text", [NO_TAG, f"{NO_TAG}\n      {HINT}"])
def test_a_package_without_wheels_for_this_python_is_named(text: str) -> None:
    """As in https://github.com/vllm-project/vllm/issues/43435."""
    assert (
        lines(text)["means"] == "the index that was asked has no wheel of cuda-tile for Python 3.14"
    )
    assert commands(only(text)) == [apart("0.21.0", "2.11.0")]


def test_a_hint_alone_names_the_package_and_no_release() -> None:
    assert lines(HINT)["means"].endswith("no wheel of cuda-tile for Python 3.14")
    assert commands(only(HINT)) == []


def test_a_requirement_with_a_marker_is_read_too() -> None:
    text = (
        'torch 2.13.0 requires nvidia-nccl-cu13==2.29.7; platform_system == "Linux", but you have'
        " nvidia-nccl-cu13 2.28.9 which is incompatible."
    )
    assert lines(text)["to do"] == (
        "fulfil what the text names: torch 2.13.0 needs nvidia-nccl-cu13==2.29.7"
    )


def test_a_release_that_is_not_known_is_on_no_index() -> None:
    text = "No matching distribution found for vllm==0.8.5+cu118"
    assert lines(text)["means"] == (
        "the index that was asked has no vllm==0.8.5+cu118: builds with +cu118 are on an index of"
        " their own"
    )


def test_a_version_without_a_wheel_for_another_system_is_on_the_index() -> None:
    text = (
        "error: Distribution `torch==2.9.1+cu130 @ registry+https://a` can't be installed because"
        " it doesn't have a source distribution or wheel for the current platform\n\nhint: You're"
        " on macOS (`macosx_15_0_arm64`), but `torch` (v2.9.1+cu130) only has wheels for the"
        " following platforms: `manylinux_2_28_aarch64`, `manylinux_2_28_x86_64`, `win_amd64`"
    )
    assert lines(text)["means"].startswith(
        "the index that was asked has no torch==2.9.1+cu130 for this Python and platform"
    )
    assert commands(only(text)) == []
