"""Whose choice a torchvision or torchaudio is that keeps vLLM from being imported.

An off-pin cell overrides what vLLM requires. Where a companion that was installed so does not go
with torch, the failure shows something about that choice and nothing about torch and vLLM.
"""

from __future__ import annotations

import importlib.metadata
import re

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion

_MARKS = tuple(
    re.compile(mark)
    for mark in (
        r"PyTorch and (torchvision|TorchAudio) were compiled with different CUDA",
        r"operator (torchvision|torchaudio)::\w+ does not exist",
        r"[/\s](torchvision|torchaudio)/[^\s:]+\.so: (?:undefined symbol|cannot open shared)",
        r"Could not load this library: \S*/(torchvision|torchaudio)/",
        # torchvision's own words, where none of its operators could be loaded.
        r"Couldn't load custom C\+\+ ops.*?(torchvision)",
    )
)


def chosen_companion(failure: str) -> str | None:
    """Return why a failed import shows a companion that vLLM does not require with this torch.

    None for any other failure, and where torch and the companion are those that vLLM requires: such
    a failure is the pair's own. Reads the metadata of what is installed here.
    """
    for mark in _MARKS:
        if found := mark.search(failure):
            name = found[1].lower()
            if _is_required("torch") and _is_required(name):
                return None
            return (
                f"{name} {_installed(name) or 'of an unknown version'} does not go with torch"
                f" {_installed('torch') or 'here'}, and vLLM does not require these two together"
            )
    return None


def _is_required(name: str) -> bool:
    """Tell whether the installed release of a package is one that vLLM's metadata accepts."""
    version = _installed(name)
    try:
        lines = importlib.metadata.requires("vllm") or ()
        required = [
            requirement for line in lines if (requirement := Requirement(line)).name == name
        ]
        return version is not None and any(
            requirement.specifier.contains(version, prereleases=True)
            for requirement in required
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        )
    except (importlib.metadata.PackageNotFoundError, InvalidRequirement, InvalidVersion):
        return False


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
