"""The way of a vLLM from sources to the platform cuda. It asks an index.

The first way that there is counts: upstream's own wheel of the commit; vLLM's own build, where a
person asks for it; Python from the sources with the extensions of the wheel of a release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from packaging.version import Version

from matrix._util.reported import Say
from matrix._util.scratch import Scratch
from matrix._util.versions import parse_version
from matrix.catalog.candidates.channels import place_of
from matrix.catalog.candidates.choose import (
    Chosen,
    Tags,
    choose_files,
    choose_version,
    machine_tags,
    recorded,
)
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.candidates.gathered import Gathered
from matrix.catalog.candidates.model import Candidate, Commit, OnCuda
from matrix.catalog.cells import Made
from matrix.catalog.index import FetchError, Index, NoProjectError
from matrix.catalog.projects import Project
from matrix.catalog.published_file import PublishedFile
from matrix.catalog.release import Vllm
from matrix.catalog.releases import Releases
from matrix.catalog.revision import commit_in
from matrix.catalog.vllm_sources.compiled import check_takes_extensions, compiled_differently
from matrix.catalog.vllm_sources.folder import SourcesError, unpack
from matrix.catalog.vllm_sources.sources import Sources


@dataclass(frozen=True, kw_only=True)
class CudaWays:
    """Finds the way of a candidate: once, when it is added.

    `pythons` are those that a wheel is looked for. `build`: where no wheel of the commit is
    published, compile it. `wheel`: take such a wheel. `otherwise` ends the line where no way is
    left.
    """

    releases: Releases
    pythons: Sequence[str]
    say: Say
    build: bool = False
    wheel: bool = True
    otherwise: str = ""
    tags: Tags = machine_tags

    def find(self, candidate: Candidate, sources: Sources, version: str | None) -> Gathered:
        """Return the candidate with its way, by its sources.

        `version` is what a person wants it to count as. Raises MatrixError: an index that does not
        answer, a wheel of another version or commit, and where no way is left.
        """
        notes: tuple[str, ...] = ()
        if self.wheel and isinstance(candidate.source, Commit):
            found = self._published(candidate, candidate.source.revision, version)
            if isinstance(found, Candidate):
                return Gathered(candidate=found)
            notes = (found,)
        if self.build:
            way = OnCuda(way=Made.COMPILED)
        else:
            try:
                check_takes_extensions(sources)
                way = self._with_extensions(candidate, sources)
            except (CandidateError, SourcesError) as error:
                raise CandidateError(f"{error}{self.otherwise}") from None
        return Gathered(candidate=replace(candidate, on_cuda=way), notes=notes)

    def _published(self, candidate: Candidate, commit: str, version: str | None) -> Candidate | str:
        """Return the candidate with the wheels of its commit, or why there is none for it."""
        channels = self.releases.candidates.channels
        place = place_of(f"commit/{commit}", Project.VLLM, channels)
        where = f"the index {place.index}"
        index = Index(place.address)
        try:
            files = choose_version(Project.VLLM, index.files(Project.VLLM), None, where)
            chosen = choose_files(Project.VLLM, files, self.pythons, where, tags=self.tags)
            own = tuple(recorded(file, index.digest(file)) for file in chosen.files)
        except NoProjectError:
            return f"{where} has no wheel of this commit"
        except CandidateError as error:
            return str(error)
        except FetchError as error:
            raise FetchError(f"{error}; go without a published wheel: --no-wheel") from None
        finally:
            index.close()
        named = commit_in(chosen.version)
        if named is not None and not commit.startswith(named):
            raise CandidateError(
                f"{where}: its vllm {chosen.version} is of commit {named}, not of {commit[:12]};"
                " go without it: --no-wheel"
            )
        if version is not None and parse_version(version).public != Version(chosen.version).public:
            raise CandidateError(
                f"--version {version}: the published wheel of this commit is vllm {chosen.version};"
                " leave --version out, or go without the wheel: --no-wheel"
            )
        way = OnCuda(way=Made.PUBLISHED, files=own, index=place.index)
        return replace(candidate, version=chosen.version, on_cuda=way)

    def _with_extensions(self, candidate: Candidate, sources: Sources) -> OnCuda:
        """Return the wheel of the nearest release, where that was compiled from the same files."""
        public = Version(Version(candidate.version).public)
        known = [row for row in self.releases.vllm if row.yanked is None]
        below = [row for row in known if parse_version(row.version) <= public]
        if not below:
            raise CandidateError(
                f"{sources.shown}: no known release is at or below vllm {public}, so no published"
                " wheel has extensions for it; compile it with --build"
            )
        release = below[-1]
        index = Index()
        try:
            where = f"the index {index.url}"
            files = index.files(Project.VLLM)
            wheels = choose_version(Project.VLLM, files, release.version, where)
            chosen = choose_files(Project.VLLM, wheels, self.pythons, where, tags=self.tags)
            self._check_compiled(sources, release, files, index)
            return _extensions_of(chosen, index)
        finally:
            index.close()

    def _check_compiled(
        self, sources: Sources, release: Vllm, files: Sequence[PublishedFile], index: Index
    ) -> None:
        """Raise CandidateError if the release was compiled from other files than these are."""
        name = f"vllm {release.version}"
        sdists = [
            file for file in files if not file.is_wheel and _is_of(file.version, release.version)
        ]
        if not sdists:
            raise CandidateError(
                f"{sources.shown}: {name} has no source distribution to compare with, so its"
                " extensions are not taken; compile it with --build"
            )
        self.say(f"{sdists[0].filename} is fetched and compared with what is compiled here")
        with Scratch("release") as folder:
            path = index.fetch(sdists[0], folder)
            place = folder / "sources"
            place.mkdir()
            differing = compiled_differently(sources.folder, unpack(path, place))
        if differing:
            more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
            raise CandidateError(
                f"{sources.shown}: {differing[0]}{more} differ{'' if more else 's'} from {name}, so"
                " the extensions of its wheel are not this vLLM's; compile it with --build"
            )


def _extensions_of(chosen: Chosen, index: Index) -> OnCuda:
    own = tuple(recorded(file, index.digest(file)) for file in chosen.files)
    return OnCuda(way=Made.WITH_EXTENSIONS, files=own)


def _is_of(version: str, release: str) -> bool:
    try:
        return parse_version(version) == parse_version(release)
    except ValueError:  # a file of an index that nobody here made
        return False
