"""Environments held against requirements: what departs, who made it so, what a failure names."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.record.model import By, Departure, Why
from matrix.record.stock import (
    InstalledPackages,
    attributed,
    departures,
    named_by,
    not_stock,
    prevents,
)

VERSIONS = {"vllm": "0.26.0", "torch": "2.11.0+cu130", "torchvision": "0.26.0", "numpy": "2.2.6"}
REQUIRES = {
    "vllm": ["torch==2.11.0", "torchvision==0.26.0", "numpy", "Flashinfer_Python==0.6.14"],
    "torchvision": ["torch==2.11.0", "numpy"],
}
FLASHINFER = Departure(
    name="flashinfer-python",
    required="Flashinfer_Python==0.6.14",
    installed=None,
    why=Why.MISSING,
)


def look(
    versions: Mapping[str, str],
    requires: Mapping[str, Sequence[str]],
    twice: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[Departure, ...]:
    def required(name: str) -> Sequence[str]:
        return requires.get(name, ())

    return departures(InstalledPackages(versions=versions, requires=required, twice=twice or {}))


def departed(found: tuple[Departure, ...]) -> list[tuple[str, str, str | None, str]]:
    return [
        (departure.name, departure.required, departure.installed, departure.why)
        for departure in found
    ]


def test_what_is_missing_is_named_once() -> None:
    assert look(VERSIONS, REQUIRES) == (FLASHINFER,)
    assert look({**VERSIONS, "flashinfer-python": "0.6.14"}, REQUIRES) == ()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("numpy<2", ["numpy"]),
        ("numpy>=2,<3", []),
        ('numpy<2 ; python_version < "3"', []),
        ('numpy<2 ; extra == "audio"', []),
        ("numpy[fast]", []),
        ("numpy @ https://example.org/numpy.whl", []),
        ("torch==2.11.0", []),
        ("torch==2.11.0+cu129", ["torch"]),
        ("numpy<<2", ["vllm"]),
        ('numpy ; no_such_marker == "1"', ["vllm"]),
        ("", ["vllm"]),
    ],
)
def test_a_requirement_holds_as_packaging_reads_it(line: str, expected: list[str]) -> None:
    assert [departure.name for departure in look(VERSIONS, {"vllm": [line]})] == expected


def test_extras_that_are_asked_for_are_followed() -> None:
    requires = {"vllm": ["numpy[fast]"], "numpy": ['mkl ; extra == "fast"', 'x ; extra == "slow"']}
    assert [departure.name for departure in look(VERSIONS, requires)] == ["mkl"]


def test_what_required_packages_require_counts_too() -> None:
    requires = {"vllm": ["numpy"], "numpy": ["mkl", "vllm"], "unrelated": ["nothing"]}
    assert departed(look(VERSIONS, requires)) == [("mkl", "mkl", None, "missing")]


def test_a_version_that_packaging_rejects_is_named() -> None:
    found = look({**VERSIONS, "numpy": "not a version"}, {"vllm": ["numpy>=2"]})
    assert departed(found) == [("numpy", "numpy>=2", "not a version", "unreadable")]


def test_a_package_that_is_there_twice_is_named() -> None:
    found = look(VERSIONS, {"vllm": ["numpy"]}, twice={"numpy": ("2.2.6", "1.26.4")})
    assert departed(found) == [("numpy", "numpy", "2.2.6 and 1.26.4", "two_versions")]


def test_a_line_of_any_length_is_cut() -> None:
    assert len(look(VERSIONS, {"vllm": ["?" * 9999]})[0].required) == 200


@pytest.mark.parametrize(
    ("torch", "prevented"), [("2.11.0", False), ("2.11.1rc1", False), ("2.12.0", True)]
)
def test_a_torchvision_for_another_torch_prevents_a_run(torch: str, prevented: bool) -> None:
    versions = {**VERSIONS, "torch": torch, "flashinfer-python": "0.6.14"}
    found = attributed(look(versions, REQUIRES), left_out=(), overridden=("torch", "torchvision"))
    made_for = [departure for departure in found if departure.why is Why.OTHER_TORCH]
    assert [(departure.name, departure.required) for departure in made_for] == [
        ("torchvision", "torch==2.11.0")
    ] * (torch != "2.11.0")
    assert any(prevents(departure, torch) for departure in found) is prevented


def test_who_made_it_so_decides_what_prevents_a_run() -> None:
    versions = {name: version for name, version in VERSIONS.items() if name != "numpy"}
    found = attributed(look(versions, REQUIRES), left_out={"flashinfer-python"}, overridden=())
    assert {
        departure.name: (departure.by, prevents(departure, "2.11.0")) for departure in found
    } == {
        "flashinfer-python": (By.BUNDLE, False),
        "numpy": (By.UNKNOWN, True),
    }


def test_an_off_pin_cell_alone_is_stock() -> None:
    versions = {**VERSIONS, "torch": "2.12.1", "torchvision": "0.27.1"}
    requires = {**REQUIRES, "torchvision": ["torch==2.12.1"]}
    found = attributed(
        look(versions, requires), left_out=(), overridden=("torch", "torchvision", "torchaudio")
    )
    assert [
        (departure.name, departure.why, departure.by)
        for departure in found
        if departure.name != FLASHINFER.name
    ] == [
        ("torch", Why.OVERRIDDEN, By.OVERRIDE),
        ("torchvision", Why.OVERRIDDEN, By.OVERRIDE),
    ]
    assert not_stock(found) == (FLASHINFER,)
    assert not_stock(None) == ()


TORCHVISION = Departure(
    name="torchvision", required="torch==2.11.0", installed="0.26.0", why=Why.OTHER_TORCH
)
TORCH = Departure(name="torch", required="torch==2.11.0", installed="2.12.1", why=Why.OVERRIDDEN)
OPENCV = Departure(name="opencv-python-headless", required="", installed=None, why=Why.MISSING)


@pytest.mark.parametrize(
    ("failure", "name"),
    [
        ("ModuleNotFoundError: No module named 'flashinfer'", "flashinfer-python"),
        ("ModuleNotFoundError: No module named 'flashinfer.comm'", "flashinfer-python"),
        ("ModuleNotFoundError: No module named 'flashinfer_jit_cache'", None),
        ("ModuleNotFoundError: No module named 'timm'", None),
        ("ModuleNotFoundError: No module named 'cv2'", "opencv-python-headless"),
        ("ImportError: cannot import name 'x' from 'flashinfer.sampling'", "flashinfer-python"),
        ("ImportError: torchvision/_C.so: undefined symbol: _ZN3c10", "torchvision"),
        ("ImportError: vllm/_C.abi3.so: undefined symbol: _ZN3c10", None),
        ("ImportError: cannot import name 'x' from 'torch._inductor'", None),
        ("PackageNotFoundError: No package metadata was found for flashinfer", "flashinfer-python"),
        ("RuntimeError: flashinfer says no", None),
        ("RuntimeError: FlashInfer is not installed, so nvfp4 cannot run", "flashinfer-python"),
        ("ValueError: this backend requires flashinfer", "flashinfer-python"),
        ("RuntimeError: Sparse Attention Indexer CUDA op requires DeepGEMM", None),
        ("RuntimeError: torchvision is not available", None),
        ("", None),
    ],
)
def test_a_failure_names_the_package_that_departs(failure: str, name: str | None) -> None:
    found = named_by((FLASHINFER, OPENCV, TORCH, TORCHVISION), failure)
    assert (found.name if found else None) == name
    assert named_by(None, failure) is None


names = st.sampled_from(["vllm", "torch", "torchvision", "a", "b", "c"])
versions = st.sampled_from(["1.0", "2.0rc1", "2.11.0+cu130", "x"])
lines = st.builds("{}{}".format, names, st.sampled_from(["", "==1.0", ">=2", "[e]", " ; x", "=1"]))


@given(st.dictionaries(names, versions), st.dictionaries(names, st.lists(lines, max_size=4)), names)
def test_any_environment_is_read_and_its_order_does_not_matter(
    there: dict[str, str], requires: dict[str, list[str]], name: str
) -> None:
    found = look(there, requires)
    backwards = {key: requires[key] for key in reversed(requires)}
    assert look(dict(reversed(there.items())), backwards) == found
    assert {departure.name for departure in found if departure.why is Why.MISSING}.isdisjoint(there)
    assert list(found) == sorted(
        found, key=lambda departure: (departure.name, departure.why is Why.OTHER_TORCH)
    )
    assert all(departure in found for departure in not_stock(found))
