"""Whose packages the environment of a torch candidate gets: folders of environments as tox has."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from candidates import torch_candidate, with_candidates
from matrix.catalog.releases import Releases
from matrix.run.neighbour import Neighbour, find_neighbour, sites_beside

NAME = "py312-torch216rc1-vllm033"
NEEDS = (
    "nvidia-nccl-cu13==2.28.9; platform_system == 'Linux'",
    "sympy>=1.13",
    "not a requirement;",
)


@pytest.fixture
def releases() -> Releases:
    return with_candidates(torch_candidate())


def environment(
    folder: Path, name: str, *, made: int = 1, torch: bool = True, python: str = "3.12"
) -> Path:
    """Return an environment of tox with torch, vLLM and a few packages; `made` orders them."""
    site = folder / name / "lib" / f"python{python}" / "site-packages"
    site.mkdir(parents=True)
    for package, version, needs in (
        *((("torch", "2.14.0", NEEDS),) if torch else ()),
        ("vllm", "0.33.0", ()),
        ("torchvision", "0.29.0", ()),
        ("nvidia_nccl_cu13", "2.28.9", ()),
        ("Sympy", "1.14.0", ()),
        ("numpy", f"2.{made}", ()),
        ("odd", "of no version", ()),
    ):
        install(site, package, version, *needs)
    install(site, "torch-vllm-matrix", "0.1", url="file:///here")
    (site / "broken-1.dist-info").mkdir()
    os.utime(site, (made, made))
    return site


def install(site: Path, name: str, version: str, *needs: str, url: str | None = None) -> None:
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {need}" for need in needs]
    (info / "METADATA").write_text("\n".join([*lines, ""]))
    if url is not None:
        (info / "direct_url.json").write_text(json.dumps({"url": url}))


def found(folder: Path, releases: Releases) -> Neighbour | None:
    return find_neighbour(releases.resolve(NAME), releases, folder)


def test_versions_are_those_of_the_environment_but_for_torchs_own(
    tmp_path: Path, releases: Releases
) -> None:
    environment(tmp_path, "py312-torch214-vllm033")
    beside = found(tmp_path, releases)
    assert beside is not None
    assert beside.name == "py312-torch214-vllm033"
    assert beside.pins == ("numpy==2.1", "sympy==1.14.0")


def test_the_environment_that_was_made_last_decides(tmp_path: Path, releases: Releases) -> None:
    environment(tmp_path, "py312-torch214-vllm033", made=2)
    environment(tmp_path, "py312-torch215-vllm033", made=9)
    environment(tmp_path, "py312-torch213-vllm033", made=5)
    beside = found(tmp_path, releases)
    assert beside is not None and beside.name == "py312-torch215-vllm033"
    assert "numpy==2.9" in beside.pins


@pytest.mark.parametrize(
    ("name", "python"),
    [
        (NAME, "3.12"),
        ("py312-torch213-vllm032", "3.12"),
        ("py311-torch214-vllm033", "3.11"),
        ("py312-torch214-vllm033", "3.13"),
        ("py312-nothing", "3.12"),
        ("unit", "3.12"),
    ],
)
def test_an_environment_of_its_own_or_of_others_has_no_say(
    tmp_path: Path, releases: Releases, name: str, python: str
) -> None:
    environment(tmp_path, name, python=python)
    assert found(tmp_path, releases) is None


def test_a_half_made_environment_has_no_say(tmp_path: Path, releases: Releases) -> None:
    environment(tmp_path, "py312-torch214-vllm033", torch=False)
    (tmp_path / "py312-torch215-vllm033").mkdir()
    assert found(tmp_path, releases) is None
    assert found(tmp_path / "nowhere", releases) is None


def test_the_same_vllm_comes_first_then_the_same_torch_then_the_newest(
    tmp_path: Path, releases: Releases
) -> None:
    for made, name in enumerate(
        (
            "py312-torch216rc1-vllm032",
            "py312-torch214-vllm033",
            "py312-torch215-vllm033",
            "py312-torch213-vllm032",
        ),
        1,
    ):
        environment(tmp_path, name, made=made)
    environment(tmp_path, NAME, made=9)
    environment(tmp_path, "py311-torch214-vllm033", python="3.11")
    sites = sites_beside(releases.resolve(NAME), releases, tmp_path)
    assert [site.relative_to(tmp_path).parts[0] for site in sites] == [
        "py312-torch215-vllm033",
        "py312-torch214-vllm033",
        "py312-torch216rc1-vllm032",
        "py312-torch213-vllm032",
    ]
