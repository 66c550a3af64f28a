"""Made-up candidates of torch and vLLM, and files of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from packaging.specifiers import SpecifierSet

from known_releases import known_releases
from matrix._util.files import digest_of
from matrix.catalog.candidates.collection import Candidates
from matrix.catalog.candidates.model import Candidate, Commit, File, OnIndex
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases

INDEX = "https://rc.example/whl/test/cu130"
TAG = "cp{0}-cp{0}-manylinux_2_28_x86_64"


def wheel(project: str, version: str, tag: str, sha256: str = "") -> File:
    name = f"{project}-{version}-{tag}.whl"
    return File(
        name=name,
        url=f"{INDEX}/{quote(name)}",
        sha256=sha256 or (name.encode().hex() * 9)[-64:],
        uploaded="2026-11-27T03:10:00Z",
    )


def torch_candidate(
    name: str = "torch216rc1",
    version: str = "2.16.0+cu130",
    *,
    sha256: str = "",
    pythons: Sequence[str] = ("311", "312"),
) -> Candidate:
    tags = [TAG.format(python) for python in pythons]
    return Candidate(
        project=Project.TORCH,
        name=name,
        version=version,
        source=OnIndex(index=INDEX, version=version.partition("+")[0], channel="test/cu130"),
        files=tuple(wheel("torch", version, tag, sha256) for tag in tags),
        companions=tuple(
            wheel(project, release, tag)
            for project, release in (("torchvision", "0.30.0+cu130"), ("triton", "3.8.0"))
            for tag in tags
        ),
        without=("torchaudio",),
        python=SpecifierSet(">=3.10"),
        cuda="13.0",
    )


def vllm_candidate(name: str = "vllmmain", version: str = "0.34.0.dev5+g4152872ac") -> Candidate:
    return Candidate(
        project=Project.VLLM,
        name=name,
        version=version,
        source=OnIndex(index="https://wheels.example/main", version=version, channel="nightly"),
        files=(wheel("vllm", version, "cp38-abi3-manylinux_2_31_x86_64"),),
        pins={"torch": "2.14.0", "torchvision": "0.29.0", "torchaudio": "2.11.0"},
        python=SpecifierSet(">=3.11,<3.15"),
    )


def commit_candidate() -> Candidate:
    source = Commit(repository="https://git.example/vllm", revision="41" * 20)
    return replace(vllm_candidate("vllmfix"), source=source, files=())


def with_candidates(*every: Candidate) -> Releases:
    """Return the package's releases that tests name, together with these candidates."""
    found = Candidates()
    for candidate in every:
        found = found.including(candidate)
    return replace(known_releases(load_releases()), candidates=found)


def keep_built(cache: Path, wheel: Path, candidate: Candidate, **changes: object) -> None:
    """Leave a wheel in a cache as a build of a candidate's commit leaves it there."""
    source = candidate.source
    assert isinstance(source, Commit)
    folder = cache / "vllm-wheels" / "a"
    folder.mkdir(parents=True)
    (folder / wheel.name).write_bytes(wheel.read_bytes())
    facts = {
        "name": wheel.name,
        "version": "0.34.0+empty",
        "sha256": digest_of(wheel),
        "kind": "commit",
        "identity": source.revision,
        "revision": source.revision,
        "source_version": candidate.version,
        "python": "3.12",
        "requirements": [],
        "tools": {},
        "seconds": 1.0,
        "log": "build.log",
        **changes,
    }
    (folder / "built.json").write_text(json.dumps(facts))
