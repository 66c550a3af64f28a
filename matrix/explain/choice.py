"""The installable pairs: vLLM releases with their pinned torch, from the catalog. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from matrix._util.versions import parse_version
from matrix.advice.install import environment_of, preferred
from matrix.catalog.release import COMPANIONS, Torch, Vllm
from matrix.catalog.releases import Releases
from matrix.explain.model import FaultRemedy, KnownReleases, PinnedPair, RemedyCode, TextVersions

# The packages that are built against torch, by their folders and extensions. A folder that a text
# names may be called as somebody else's project is, so no other name becomes a command.
_BUILDS = {
    "causal_conv1d": "causal-conv1d",
    "causal_conv1d_cuda": "causal-conv1d",
    "deepspeed": "deepspeed",
    "flash_attn": "flash-attn",
    "flash_attn_2_cuda": "flash-attn",
    "lmcache": "lmcache",
    "mamba_ssm": "mamba-ssm",
    "selective_scan_cuda": "mamba-ssm",
    "torchac_cuda": "lmcache",
    "xformers": "xformers",
}


@dataclass(frozen=True, kw_only=True)
class InstallChoice:
    """The releases to choose from, without those that were withdrawn.

    `vllms` are those of vLLM, oldest first, `torches` those of torch by version, oldest first.
    `is_for_machine` returns whether one with its pin can run on the machine that a text names.
    """

    releases: Releases
    vllms: tuple[Vllm, ...]
    torches: Mapping[str, Torch]
    is_for_machine: Callable[[Vllm], bool] = lambda _: True

    @classmethod
    def of(cls, releases: Releases) -> InstallChoice:
        """Return those of these releases that an installer takes."""
        return cls(
            releases=releases,
            vllms=tuple(row for row in releases.vllm if row.yanked is None),
            torches={row.version: row for row in releases.torch if row.yanked is None},
        )

    def row(self, vllm: str) -> Vllm | None:
        """Return the release of vLLM of that version; None for an unknown one."""
        return next((row for row in self.vllms if row.version == vllm), None)

    def newest(self, fits: Callable[[Vllm], bool] = lambda _: True) -> Vllm | None:
        """Return the newest vLLM that fits, also the machine; None if none does."""
        every = (row for row in reversed(self.vllms) if fits(row))
        return next(filter(self.is_for_machine, every), None)

    def pinned(self, vllms: Iterable[str], torches: Iterable[str]) -> tuple[PinnedPair, ...]:
        """Return those of these vLLMs, with their pins, that pin one of these torches."""
        wanted, there = set(vllms), set(torches)
        return tuple(
            PinnedPair(vllm=row.version, torch=row.torch)
            for row in self.vllms
            if row.version in wanted and row.torch in there
        )

    def pinning(self, torches: Iterable[str]) -> KnownReleases:
        """Return the vLLMs that pin one of these torches."""
        there = set(torches)
        return KnownReleases(
            holds=tuple(row.version for row in self.vllms if row.torch in there),
            asked=tuple(row.version for row in self.vllms),
        )

    def install(self, row: Vllm | None) -> tuple[FaultRemedy, ...]:
        """Return the remedy to install a vLLM with its pin, apart; none for no vLLM."""
        if row is None:
            return ()
        more = self.releases.constraints(row.version)
        remedy = FaultRemedy(
            code=RemedyCode.INSTALL,
            requirements=(f"vllm=={row.version}", f"torch=={row.torch}", *more),
            environment=environment_of(row.version),
            python=self._python(row),
        )
        return (remedy,)

    def _python(self, row: Vllm) -> str:
        """Return the Python to advise, of those that a vLLM and its pin accept."""
        torch = self.torches.get(row.torch)
        every = preferred(self.releases.pythons)
        bounds = [row.python, *([torch.python] if torch and torch.python else [])]
        fit = (python for python in every if all(bound.contains(python) for bound in bounds))
        return next(fit, every[0])

    def installs(
        self, fits: Callable[[Vllm], bool], versions: TextVersions
    ) -> tuple[FaultRemedy, ...]:
        """Return what to install: what keeps the vLLM or the torch of the text, and the newest."""
        rows = [
            self.newest(lambda row: fits(row) and row.version == versions.vllm),
            self.newest(lambda row: fits(row) and row.torch == versions.torch),
            self.newest(fits),
        ]
        found = [remedy for row in rows for remedy in self.install(row)]
        return tuple(dict.fromkeys(found))[:2]

    def companions(self, torch: Torch) -> tuple[str, ...]:
        """Return the requirements of a torch with what goes with it."""
        named = ((name, getattr(torch, name)) for name in COMPANIONS)
        return (
            f"torch=={torch.version}",
            *(f"{name}=={version}" for name, version in named if version),
        )


def major_of(cuda: str | None) -> int | None:
    """Return the major release of a CUDA; None for an unknown one."""
    return parse_version(cuda).major if cuda else None


def package_of(file: str | None, folder: str | None) -> str | None:
    """Return the package to build again, by an extension's file and the folder that has it.

    None if that is not known.
    """
    stem = (file or "").partition(".")[0]
    return _BUILDS.get(folder or "", _BUILDS.get(stem))


def package_of_wheel(file: str) -> str | None:
    """Return the package to build again, by the name of its wheel; None if that is not known.

    Anybody may give a file any name: only that of a package that is known here becomes a command.

    >>> package_of_wheel("flash_attn-2.8.3-cp312-cp312-linux_x86_64.whl")
    'flash-attn'
    """
    try:
        name, *_ = parse_wheel_filename(file)
    except InvalidWheelFilename:
        return None
    return name if name in _BUILDS.values() else None


def rebuild(package: str | None) -> FaultRemedy:
    """Return the remedy to build a package again; without a command where it is not known."""
    named = () if package is None else (package,)
    return FaultRemedy(code=RemedyCode.REBUILD, requirements=named)
