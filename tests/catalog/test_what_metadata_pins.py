"""The pins of a release, as its own metadata has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from matrix._util.versions import specifier_text
from matrix.catalog.package_metadata import (
    MetadataError,
    main_cuda,
    read_companion,
    read_torch,
    read_vllm,
    wanted_member,
)

# As vllm/envs.py has it, in 0.11.0 and in 0.20.2.
ENVS_OLD = (
    '    VLLM_MAIN_CUDA_VERSION: str = "1.1"\n'
    '    "VLLM_MAIN_CUDA_VERSION":\n'
    '    lambda: os.getenv("VLLM_MAIN_CUDA_VERSION", "").lower() or\n'
    '    "12.8",\n'
)
ENVS = (
    '    "VLLM_MAIN_CUDA_VERSION": lambda: (\n'
    '        os.getenv("VLLM_MAIN_CUDA_VERSION", "").lower() or "13.0"\n    ),\n'
)
SETUP = 'x = 1\nMAIN_CUDA_VERSION = "12.6"\n'
X86 = 'platform_system == "Linux" and platform_machine == "x86_64"'


def metadata(name: str, version: str, *required: str, python: str = "<3.14,>=3.10") -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [
        f"Requires-Python: {python}",
        *(f"Requires-Dist: {requirement}" for requirement in required),
    ]
    return "\n".join(lines) + "\n\nRequires-Dist: torch==9.9 in a README\n"


def vllm(*required: str, source: str = "wheel", **more: str) -> dict[str, str]:
    members = {"vllm-0.19.1.dist-info/METADATA": metadata("vllm", "0.19.1", *required), **more}
    return dict(read_vllm("0.19.1", members, source).facts)


@pytest.mark.parametrize(
    ("required", "cuda"),
    [
        (f"nvidia-cuda-runtime-cu12==12.8.90; {X86}", "12.8"),
        ('cuda-toolkit[cublas,cudart]==13.0.2; platform_system == "Linux"', "13.0"),
        ("nvidia-cuda-runtime==13.2.7", "13.2"),
        ('nvidia-cuda-runtime-cu12==12.8.90; platform_system == "Windows"', None),
        ("nvidia-cuda-nvrtc-cu12==12.8.93", None),
        ("cuda-bindings<14,>=13.0.3", None),
    ],
)
def test_the_cuda_of_a_torch(required: str, cuda: str | None) -> None:
    text = metadata("torch", "2.10.0", "filelock", required)
    facts = read_torch("2.10.0", text, "wheel").facts
    assert facts.get("cuda") == cuda
    assert (facts["source"], facts["python"]) == ("wheel", ">=3.10,<3.14")


@pytest.mark.parametrize(
    ("required", "requires"),
    [("torch (==2.9.1)", "==2.9.1"), ("torch>=2.14.0", ">=2.14.0"), ("numpy", None)],
)
def test_the_torch_of_a_companion(required: str, requires: str | None) -> None:
    text = metadata("torchvision", "0.24.1", required)
    read = read_companion("torchvision", "0.24.1", {"a.dist-info/METADATA": text}, "wheel")
    assert read.facts.get("requires") == requires


@pytest.mark.parametrize(
    ("line", "cuda"),
    [
        ("__version__ = '2.11.0+cu130'\ngit_version = 'a'", "13.0"),
        ('git_version = "a"\n__version__: str = "2.7.0+cu126"', "12.6"),
        ("__version__ = '2.11.0+cpu'", None),
        ("__version__ = '2.11.0'", None),
        ("__version__ = '2.11.0+cu'", None),
        ("other = '2.11.0+cu130'", None),
        ("", None),
    ],
)
def test_the_cuda_of_a_companion(line: str, cuda: str | None) -> None:
    members = {
        "a.dist-info/METADATA": metadata("torchaudio", "2.11.0"),
        "torchaudio/version.py": line,
        "torchvision/version.py": "__version__ = '2.11.0+cu118'",
    }
    assert all(wanted_member(name) for name in members)
    assert not wanted_member("torchaudio/functional/version.py")
    assert read_companion("torchaudio", "2.11.0", members, "wheel").facts.get("cuda") == cuda


def test_a_companion_without_metadata_is_refused() -> None:
    with pytest.raises(MetadataError, match=r"^torchaudio 2\.11\.0: its metadata "):
        read_companion("torchaudio", "2.11.0", {"torchaudio/version.py": ""}, "wheel")


def test_the_pins_of_a_vllm() -> None:
    facts = vllm(
        "torch==2.10.0",
        "torchaudio==2.10.0+cu128",
        'torchvision==0.25.0; platform_machine == "x86_64"',
        'torchvision==0.1; platform_machine == "aarch64"',
        'torch==2.2; extra == "tpu"',
        **{"vllm/envs.py": ENVS},
    )
    assert facts == {
        "torch": "2.10.0",
        "torchvision": "0.25.0",
        "torchaudio": "2.10.0",
        "python": ">=3.10,<3.14",
        "cuda": "13.0",
        "source": "wheel",
    }


def test_a_source_distribution_pins_by_its_requirements_for_cuda() -> None:
    lines = "-r common.txt\n# torch==1\nnumba == 0.65.0 # why\ntorch==2.10.0 # new\ntorch-x==1\n"
    lines += "torchvision==0.25.0 # see http://a/#b\n???\n"
    members = {
        "vllm-0.19.1/PKG-INFO": metadata("vllm", "0.19.1", "torch==2.10.0+cpu", "torchaudio==1"),
        "vllm-0.19.1/requirements/cuda.txt": lines,
        "vllm-0.19.1/setup.py": SETUP,
        "vllm-0.19.1/vllm/envs.py": "",
    }
    facts = read_vllm("0.19.1", members, "sdist").facts
    assert {"torch": "2.10.0", "torchvision": "0.25.0", "cuda": "12.6"}.items() <= facts.items()
    assert "torchaudio" not in facts
    del members["vllm-0.19.1/requirements/cuda.txt"]
    assert read_vllm("0.19.1", members, "sdist").facts["torch"] == "2.10.0"


@pytest.mark.parametrize(
    ("required", "note"),
    [
        (["torch>=2.6"], "its wheel asks for torch>=2.6, which is not a pin"),
        (["torch==2.6.*"], "its wheel asks for torch==2.6.*, which is not a pin"),
        (["torch"], "its wheel asks for torch, which is not a pin"),
        (["torchaudio==2.10.0"], "its wheel asks for no torch, which is not a pin"),
    ],
)
def test_a_vllm_without_a_pin_says_so(required: list[str], note: str) -> None:
    facts = vllm(*required)
    assert facts["note"] == note
    assert not {"torch", "torchvision", "torchaudio"} & facts.keys()


@pytest.mark.parametrize(
    ("members", "cuda"),
    [
        ({"vllm/envs.py": ENVS}, "13.0"),
        ({"vllm-1/vllm/envs.py": ENVS_OLD, "vllm-1/setup.py": SETUP}, "12.6"),
        ({"vllm-1/vllm/envs.py": ENVS_OLD}, "12.8"),
        ({"vllm-1/setup.py": f" {SETUP[6:]}"}, None),
        ({"vllm/envs.py": '"VLLM_MAIN_CUDA_VERSION": lambda: None,' + " " * 300 + '"1.2"'}, None),
        ({}, None),
    ],
)
def test_the_cuda_of_a_vllm(members: dict[str, str], cuda: str | None) -> None:
    assert main_cuda(members) == cuda


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "its metadata is refused ("),
        (metadata("torch", "2.10.0", "torch @@ 1"), "its metadata is refused ("),
        (metadata("torch", "2.10.0", python="3"), "its metadata is refused ('3' is invalid for"),
        (metadata("torch", "two"), "its metadata is refused ("),
        (metadata("torch", "2.9.1"), "its metadata is that of torch 2.9.1; not taken"),
        (metadata("numpy", "2.10.0"), "its metadata is that of numpy 2.10.0; not taken"),
    ],
)
def test_metadata_that_is_refused(text: str, said: str) -> None:
    with pytest.raises(MetadataError) as caught:
        read_torch("2.10.0", text, "wheel")
    assert str(caught.value).startswith(f"torch 2.10.0: {said}")
    assert "\n" not in str(caught.value)


def test_pins_that_contradict_each_other_or_are_not_there() -> None:
    with pytest.raises(MetadataError, match=r"pins torch twice, 2\.9\.1 and 2\.10\.0"):
        vllm("torch==2.9.1", "torch==2.10.0")
    with pytest.raises(MetadataError, match=r"^vllm 0\.19\.1: its sdist contains no metadata"):
        read_vllm("0.19.1", {"vllm-0.19.1/requirements/cuda.txt": "torch==1"}, "sdist")
    text = {"a/PKG-INFO": metadata("vllm", "0.19.1"), "a/requirements/cuda.txt": "torch=1"}
    with pytest.raises(MetadataError, match=r"cuda\.txt: 'torch=1' is not a requirement$"):
        read_vllm("0.19.1", text, "sdist")


@given(st.text())
def test_no_metadata_makes_a_traceback(text: str) -> None:
    try:
        read_torch("2.10.0", text, "wheel")
    except MetadataError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("torch-2.10.0.dist-info/METADATA", True),
        ("vllm-0.19.1/PKG-INFO", True),
        ("vllm-0.19.1/requirements/cuda.txt", True),
        ("vllm-0.19.1/setup.py", True),
        ("vllm/envs.py", True),
        ("vllm-0.19.1/vllm/envs.py", True),
        ("vllm-0.19.1/vllm.egg-info/PKG-INFO", False),
        ("torch/a/b.dist-info/METADATA", False),
        ("vllm-0.19.1/requirements/rocm.txt", False),
    ],
)
def test_what_is_read_of_an_archive(name: str, wanted: bool) -> None:
    assert wanted_member(name) is wanted


@given(st.permutations([">=3.10", "<3.14", "!=3.12.1"]))
def test_a_range_reads_the_same_whatever_its_order(parts: list[str]) -> None:
    said = specifier_text(SpecifierSet(",".join(parts)))
    assert said == ">=3.10,<3.14,!=3.12.1"
    assert Requirement(f"a{said}").specifier == SpecifierSet(",".join(parts))
