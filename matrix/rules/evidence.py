"""The reach of a rule's evidence: its releases, and the rules that go beyond it.

Pure. A record is evidence of the releases that its cell names, on its platform. A link to a tag is
evidence of that vLLM on CUDA, where upstream's test there states a number that the rule has, and of
every torch for which it states it, up to the newest one that a release of vLLM pins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from matrix._util.versions import VersionRange, minor_of, next_minor, parse_version
from matrix.catalog.cells import CellError, factors, is_candidate
from matrix.catalog.projects import Project
from matrix.catalog.releases import Releases
from matrix.record.model import Platform
from matrix.rules.expectations import Expectations, Rule
from matrix.rules.upstream.hold import Stated, every_number, torches_of
from matrix.rules.upstream.model import STARTUP_TESTS, Upstream, UpstreamRelease, within


@dataclass(frozen=True, kw_only=True)
class Minors:
    """The minor releases that evidence is of, such as `0.33` and `2.14`."""

    vllm: frozenset[str]
    torch: frozenset[str]

    def newest(self, project: Project) -> str | None:
        """Return the newest minor release of a project; None without evidence."""
        found = self.vllm if project is Project.VLLM else self.torch
        return max(found, key=parse_version, default=None)


@dataclass(frozen=True, kw_only=True)
class Overrun:
    """A rule that goes beyond its evidence on a platform.

    `versions` is what the rule says of the project, and `carried` the newest minor release of which
    there is evidence; None if there is none of that platform.
    """

    rule: str
    platform: Platform
    project: Project
    versions: str
    carried: str | None

    @property
    def end(self) -> str | None:
        """The upper bound that the evidence carries, such as `<0.34`."""
        return None if self.carried is None else f"<{next_minor(self.carried)}"


@dataclass(frozen=True, kw_only=True)
class UpstreamEvidence:
    """Upstream's numbers by the link of the file that states them, and the torch releases."""

    stated: Mapping[str, Sequence[Stated]]
    files: Mapping[str, UpstreamRelease]
    torches: tuple[str, ...]

    def of(self, rule: Rule, platform: Platform) -> Minors:
        """Return the releases that the evidence of a rule is of, on this platform."""
        found = [*_of_records(rule, platform)]
        if platform is Platform.CUDA:
            for link in rule.evidence:
                found += self._of_link(rule, link)
        return Minors(
            vllm=frozenset(vllm for vllm, _ in found), torch=frozenset(torch for _, torch in found)
        )

    def _of_link(self, rule: Rule, link: str) -> Iterator[tuple[str, str]]:
        """Yield the minor releases, vLLM and torch, of which a file of upstream's speaks."""
        for stated in self.stated.get(link, ()):
            where = stated.situation
            if (
                where is not None
                and stated.start == rule.start
                and stated.counter in rule.counters
                and rule.case in (None, where.case, where.case.partition("[")[0])
                and rule.flags.items() <= where.flags.items()
            ):
                yield minor_of(where.vllm), minor_of(where.torch)
        if (release := self.files.get(link)) is None:
            return
        # A test of how vLLM compiles, whatever the model, such as that of its artifacts.
        file = next(file for path, file in release.files.items() if release.link(path) == link)
        for case in file.cases:
            if any(
                start.start == rule.start and not start.numbers.keys().isdisjoint(rule.counters)
                for start in case.starts
            ):
                for torch in self.torches:
                    if within(torch, case.torch):
                        yield minor_of(release.version), minor_of(torch)


def evidence_of(upstream: Upstream, releases: Releases) -> UpstreamEvidence:
    """Return what upstream states, under each torch up to the newest that one of its vLLM pins."""
    read = {release.version for release in upstream.releases}
    pinned = [minor_of(release.torch) for release in releases.vllm if release.version in read]
    newest = max(map(parse_version, pinned), default=None)
    torches = tuple(
        torch
        for torch in torches_of(upstream, releases)
        if newest is not None and parse_version(minor_of(torch)) <= newest
    )
    stated: dict[str, list[Stated]] = {}
    for number in every_number(upstream, torches):
        stated.setdefault(number.link, []).append(number)
    files = {
        release.link(path): release
        for release in upstream.releases
        for path in release.files
        if path.rpartition("/")[2] not in STARTUP_TESTS
    }
    return UpstreamEvidence(stated=stated, files=files, torches=torches)


def overruns(expectations: Expectations, evidence: UpstreamEvidence) -> Iterator[Overrun]:
    """Yield where a rule goes beyond its evidence, in the order of the file.

    A rule without a platform needs evidence of each.
    """
    for rule in expectations.rules:
        for platform in Platform if rule.platform is None else (rule.platform,):
            found = evidence.of(rule, platform)
            for project, versions in ((Project.VLLM, rule.vllm), (Project.TORCH, rule.torch)):
                carried = found.newest(project)
                if carried is None or _goes_beyond(versions, carried):
                    yield Overrun(
                        rule=rule.id,
                        platform=platform,
                        project=project,
                        versions=versions.text or "",
                        carried=carried,
                    )


def _goes_beyond(versions: VersionRange, carried: str) -> bool:
    return versions.shared(VersionRange(f">={next_minor(carried)}")) is not None


def _of_records(rule: Rule, platform: Platform) -> Iterable[tuple[str, str]]:
    """Yield vLLM and torch of each record of this platform that the rule names.

    That of a candidate is evidence of no release.
    """
    for record in rule.records:
        path = PurePosixPath(record)
        if path.parent.name != platform:
            continue
        try:
            named = factors(path.name.partition(".")[0])
        except CellError:
            continue
        if named.vllm is not None and not (is_candidate(named.vllm) or is_candidate(named.torch)):
            yield named.vllm, named.torch
