"""Names of GPUs, drivers, and the table of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from matrix.catalog.hardware import (
    NO_BRANCHES,
    Capability,
    DriverBranches,
    HardwareError,
    driver_of,
)
from matrix.catalog.hardware_file import HARDWARE_FILE, load_hardware

HARDWARE = load_hardware()


@pytest.mark.parametrize(
    ("text", "capability"),
    [
        ("h100", (9, 0)),
        ("NVIDIA H100 80GB HBM3", (9, 0)),
        ("NVIDIA H200", (9, 0)),
        ("NVIDIA A100-SXM4-80GB", (8, 0)),
        ("NVIDIA GeForce RTX 4090", (8, 9)),
        ("4090", (8, 9)),
        ("rtx5090", (12, 0)),
        ("3090ti", (8, 6)),
        ("GeForce RTX 4070Ti", (8, 9)),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", (12, 0)),
        ("Tesla T4", (7, 5)),
        ("Tesla V100-SXM2-16GB", (7, 0)),
        ("DGX Spark", (12, 1)),
        ("NVIDIA GB10", (12, 1)),
        ("gb300", (10, 3)),
        ("sm_121", (12, 1)),
        ("SM_90a", (9, 0)),
        ("12.1", (12, 1)),
        ("80", (8, 0)),
        ("sm_60", (6, 0)),
        ("sm_130", (13, 0)),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", (12, 0)),
    ],
)
def test_a_gpu_is_known_by_its_name_and_by_its_capability(
    text: str, capability: tuple[int, int]
) -> None:
    assert HARDWARE.gpu(text).capability == capability


@pytest.mark.parametrize("text", ["", "tpu v5e", "sm_", "9", "h100 or h200", "9.0.1", "x" * 500])
def test_any_other_text_says_what_to_write(text: str) -> None:
    with pytest.raises(HardwareError, match=r"is not a known GPU.*; write its compute capability"):
        HARDWARE.gpu(text)


@pytest.mark.parametrize(
    ("text", "maker"),
    [
        ("mi300x", "AMD"),
        ("AMD Instinct MI250", "AMD"),
        ("MI-355X", "AMD"),
        ("gfx942", "AMD"),
        ("Radeon RX 7900 XTX", "AMD"),
        ("rx7900xtx", "AMD"),
        ("W7900", "AMD"),
        ("Intel Arc A770", "Intel"),
        ("Intel Arc Pro A40", "Intel"),  # NVIDIA has an A40 too
        ("AMD", "AMD"),
        ("rx 6800", "AMD"),
        ("rx 580", "AMD"),
        ("RX580 8GB", "AMD"),
        ("Vega 64", "AMD"),
        ("Intel Data Center GPU Max 1550", "Intel"),
        ("Gaudi3", "Intel"),
    ],
)
def test_a_gpu_of_another_maker_is_named_as_such(text: str, maker: str) -> None:
    with pytest.raises(HardwareError, match=f"is a GPU of {maker}, which needs builds") as refusal:
        HARDWARE.gpu(text)
    assert "did you mean" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_no_known_gpu_is_called_another_makers() -> None:
    for name in HARDWARE.gpus:
        assert HARDWARE.gpu(name).name == name


@pytest.mark.parametrize("text", ["p100", "k80", "m60", "m300", "tpu v5e"])
def test_a_name_that_is_not_near_gets_no_other(text: str) -> None:
    with pytest.raises(HardwareError, match="is not a known GPU") as refusal:
        HARDWARE.gpu(text)
    assert "did you mean" not in str(refusal.value)


@pytest.mark.parametrize("text", ["12", "900", "130", "99"])
def test_a_bare_number_is_a_capability_only_if_it_exists(text: str) -> None:
    with pytest.raises(HardwareError, match="is not a known GPU; write its compute capability"):
        HARDWARE.gpu(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("rtx 4090 d", "rtx 4090"),
        ("h100x", "h100"),
        ("h-100", "h100"),
        ("hh100", "h100"),
        ("L40-S", "l40s"),
        ("RX 5090", "rtx 5090"),
        ("rx5090", "rtx 5090"),
        ("AMD RX-4090", "rtx 4090"),
        ("rx 3080ti", "rtx 3080 ti"),
        ("AMD EPYC with H100", "h100"),
        ("Intel Xeon, NVIDIA H100 80GB HBM3", "h100"),
        ("an AMD host (h100)", "h100"),
        ("rtx pro 6000 of AMD", "rtx pro 6000"),
    ],
)
def test_a_name_that_is_nearly_right_is_named(text: str, name: str) -> None:
    with pytest.raises(HardwareError, match=f"did you mean '{name}'"):
        HARDWARE.gpu(text)


@pytest.mark.parametrize("text", ["", "58", "x", "580.", "580.1.2.3", "٥٨٠", "580-server"])
def test_what_is_no_driver_is_refused(text: str) -> None:
    with pytest.raises(HardwareError, match="write it as 580"):
        driver_of(text)


@given(st.integers(100, 999), st.integers(0, 200), st.integers(0, 99))
def test_a_branch_may_be_any_of_its_releases(branch: int, minor: int, patch: int) -> None:
    """It is not older than any release of the branch, and no release is older than itself."""
    release = f"{branch}.{minor}.{patch:02}"
    assert not driver_of(str(branch)).is_older(release)
    assert not driver_of(release).is_older(release)
    assert driver_of(str(branch)).is_older(f"{branch + 1}.0")


def test_each_cuda_of_a_release_has_its_drivers() -> None:
    from matrix.catalog.releases_file import load_releases

    releases = load_releases()
    every = {row.cuda for row in releases.torch if row.cuda}
    every |= {row.cuda for row in releases.vllm if row.cuda}
    assert every <= HARDWARE.cuda.keys()
    assert HARDWARE.gpu("sm_90").capability == Capability(9, 0)


def test_each_gpu_is_known_to_a_cuda_of_which_it_says_the_drivers() -> None:
    for capability in HARDWARE.gpus.values():
        since, until = HARDWARE.known_since(capability), HARDWARE.known_until(capability)
        assert since is not None and since in HARDWARE.cuda
        assert HARDWARE.knows(since, capability)
        assert until is None or (until in HARDWARE.cuda and not HARDWARE.knows(until, capability))
    for release in HARDWARE.cuda.values():
        assert not driver_of(release.own).is_older(release.least)
        assert not release.adds & release.removes


def test_the_releases_of_a_major_share_the_oldest_driver() -> None:
    assert list(HARDWARE.cuda) == sorted(HARDWARE.cuda, key=Version)
    assert HARDWARE.least_driver("11.0") == "450.51.05"
    assert HARDWARE.least_driver("11.6") == "450.80.02"
    assert HARDWARE.least_driver("12.4") == HARDWARE.least_driver("12.9") == "525.60.13"
    assert HARDWARE.least_driver("13.9") == "580.65.06"
    assert HARDWARE.least_driver("99.0") is None


def test_the_compiler_of_a_cuda_knows_the_gpus_of_its_time() -> None:
    volta, ada, blackwell = Capability(7, 0), Capability(8, 9), Capability(12, 0)
    assert (HARDWARE.known_since(ada), HARDWARE.known_until(ada)) == ("11.8", None)
    assert HARDWARE.known_until(volta) == "13.0"
    assert HARDWARE.knows("12.8", volta) and not HARDWARE.knows("13.0", volta)
    assert HARDWARE.knows("12.8", blackwell) and not HARDWARE.knows("12.6", blackwell)
    assert HARDWARE.known_since(Capability(99, 9)) is None
    assert not HARDWARE.knows("13.0", Capability(99, 9))


CUDA = """
[[cuda]]
version = "13.0"
least = "580.65.06"
own = "580.65.06"
sources = ["https://a"]
"""
MODEL = '[[model]]\ncase = "a"\nleast = "9.0"\nversions = ">1"\nsources = ["https://a"]\n'
ROW = '[[gpu]]\ncapability = "9.0"\nnames = ["h100"]\nsource = "https://a"\n'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = 1", r"x: unknown key; begin each with \[\[gpu\]\] or"),
        ("gpu = 1", "gpu: is not a list"),
        (
            ROW.replace("9.0", "nine"),
            "capability: 'nine' is not a compute capability; write it as 9.0",
        ),
        (ROW.replace("h100", "NVIDIA H100"), "appears twice, or is not plain"),
        (ROW + ROW, "appears twice"),
        (ROW.replace("https://a", "a book"), "source: is not an address"),
        (ROW.replace('["h100"]', "[]"), "names: is not text"),
        (ROW.replace('["h100"]', '"h100"'), "names: is not a list"),
        (ROW.replace("names", "name"), "its keys are not capability, names, source"),
        (CUDA.replace("580.65.06", "new", 1), "least: 'new': is not a version of a driver"),
        (CUDA.replace('"13.0"', '"new"'), "version: 'new' is not a release; write 13.0"),
        (CUDA + CUDA, "cuda 2: version: 13.0 appears twice"),
        (CUDA.replace("https://a", "a book"), "sources: is not an address"),
        (CUDA.replace('["https://a"]', '"https://a"'), "sources: is not a list"),
        (f"{CUDA}adds = ['120', 'new']\n", r"adds: names no architectures; write it as \[\"sm_120"),
        (f"{CUDA}removes = 'sm_70'\n", "removes: is not a list"),
        (f"{CUDA}extra = 'more'\n", "its keys are not version, least, own, sources"),
        (
            (
                '[[flavour]]\nproject = "torch"\nversions = "new"\ncuda = ["13.0"]\nindex = "a"\n'
                'source = "https://a"\n'
            ),
            "versions: is not a range",
        ),
        (MODEL.replace("9.0", "new"), "least: is not a compute capability"),
        (MODEL.replace(">1", "new"), "versions: is not a range"),
        (MODEL + MODEL, "model 2: case: 'a' appears twice; keep one"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "hardware.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(HardwareError, match=why):
        load_hardware(path)
    assert load_hardware(HARDWARE_FILE).flavours


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ('capabilities = ["x"]\nfirst = "570"', "names no architectures"),
        ('capabilities = ["9.0"]\nfirst = "570.1"', "is not a branch; write it as 580"),
        ('capabilities = ["9.0", "9.0"]\nlast = "5"', "is not a branch; write it as 580"),
        ('first = "570"', "its keys are not"),
        ('capabilities = ["9.0"]', "has neither first nor last; write one, or leave it out"),
        (
            'capabilities = ["9.0"]\nfirst = "580"\nlast = "570"',
            "last: 570 is before the first, 580",
        ),
    ],
)
def test_bad_branches_of_drivers(tmp_path: Path, row: str, why: str) -> None:
    file = tmp_path / "hardware.toml"
    file.write_text(f'[[driver]]\n{row}\nsources = ["https://a.test"]\n', encoding="utf-8")
    with pytest.raises(HardwareError, match=why):
        load_hardware(file)


@pytest.mark.parametrize(
    ("names", "machine", "why"),
    [
        ('["h100"]', "s390x", "machine: is not one of x86_64, aarch64"),
        ('["h200"]', "aarch64", "names: 'h200' is not the name of a GPU above"),
        ('["h100", "h100"]', "aarch64", "names: 'h100' appears twice; keep one"),
    ],
)
def test_a_bad_processor_is_named(tmp_path: Path, names: str, machine: str, why: str) -> None:
    file = tmp_path / "hardware.toml"
    row = f'[[processor]]\nmachine = "{machine}"\nnames = {names}\nsource = "https://a"\n'
    file.write_text(ROW + row, encoding="utf-8")
    with pytest.raises(HardwareError, match=why):
        load_hardware(file)


def test_a_gpu_without_a_row_is_known_to_the_driver_of_its_first_cuda() -> None:
    firsts = {name: HARDWARE.branches(HARDWARE.gpus[name]).first for name in HARDWARE.gpus}
    assert {
        name: firsts[name] for name in ("b200", "rtx 5090", "b300", "gb10", "thor", "h100")
    } == {
        "b200": "570",
        "rtx 5090": "570",
        "b300": "575",
        "gb10": "575",
        "thor": "580",
        "h100": "520",
    }
    # The oldest CUDA of the table is not the first that knew these.
    assert {firsts[name] for name in ("v100", "t4", "a100")} == {None}
    assert HARDWARE.branches(Capability(13, 0)) == NO_BRANCHES
    assert HARDWARE.branches(Capability(7, 0)) == DriverBranches(last="580")


@pytest.mark.parametrize("name", ["Jetson AGX Orin", "jetson-orin-nano", "Orin NX", "Jetson Thor"])
def test_a_jetson_comes_with_its_processor(name: str) -> None:
    assert HARDWARE.processor_of(HARDWARE.gpu(name)) == "aarch64"
