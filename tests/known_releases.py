"""The package's releases up to the newest that tests name: a newer one changes no test."""

from __future__ import annotations

from dataclasses import replace

from packaging.version import Version

from matrix.catalog.releases import Releases

NEWEST_TORCH = Version("2.15.0")
NEWEST_VLLM = Version("0.33.0")


def known_releases(releases: Releases) -> Releases:
    """Return releases without those that are newer than the tests."""
    return replace(
        releases,
        torch=tuple(torch for torch in releases.torch if Version(torch.version) <= NEWEST_TORCH),
        vllm=tuple(vllm for vllm in releases.vllm if Version(vllm.version) <= NEWEST_VLLM),
        matrix_vllm=tuple(
            version for version in releases.matrix_vllm if Version(version) <= NEWEST_VLLM
        ),
    )
