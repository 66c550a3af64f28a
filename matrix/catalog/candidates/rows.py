"""Candidates as rows of torch and vLLM, for all that looks at releases. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.utils import parse_wheel_filename

from matrix.catalog.release import COMPANIONS, Torch, Vllm

if TYPE_CHECKING:
    from matrix.catalog.candidates.model import Candidate


def torch_row(candidate: Candidate) -> Torch:
    """Return a candidate of torch as a row, whose version is its release key."""
    companions = {file.project: file.version for file in candidate.companions}
    found = {name: companions.get(name) or candidate.pins.get(name) for name in COMPANIONS}
    return Torch(
        version=candidate.key,
        python=candidate.python,
        torchvision=found["torchvision"],
        torchaudio=found["torchaudio"],
        without=tuple(name for name, version in found.items() if version is None),
        cuda=candidate.cuda,
        uploaded=_uploaded(candidate),
        wheels=_wheels(candidate),
    )


def vllm_row(candidate: Candidate) -> Vllm:
    """Return a candidate of vLLM as a row, whose version is its release key."""
    return Vllm(
        version=candidate.key,
        torch=candidate.pins["torch"],
        torchvision=candidate.pins.get("torchvision"),
        torchaudio=candidate.pins.get("torchaudio"),
        python=candidate.python or SpecifierSet(),
        cuda=candidate.cuda,
        uploaded=_uploaded(candidate),
        wheels=_wheels(candidate),
    )


def _uploaded(candidate: Candidate) -> str | None:
    return min((file.uploaded[:10] for file in candidate.files if file.uploaded), default=None)


def _wheels(candidate: Candidate) -> dict[str, tuple[str, ...]]:
    """Return the Pythons of a candidate's wheels by platform tag, as a release has them.

    Without any where a wheel is for every platform.
    """
    found: dict[str, list[str]] = {}
    for file in candidate.files:
        for tag in sorted(parse_wheel_filename(file.name)[3], key=str):
            python = f"{tag.interpreter}-abi3" if tag.abi == "abi3" else tag.interpreter
            found.setdefault(tag.platform, []).append(python)
    if "any" in found:
        return {}
    return {platform: tuple(dict.fromkeys(pythons)) for platform, pythons in found.items()}
