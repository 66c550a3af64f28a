"""Channels: package indexes of builds that are not released, by the names that people use. Pure.

An address may have the places {flavour} (the build of CUDA, such as cu130, or cpu) and {commit}. A
person overrides an address in `candidates.toml` ([channels.torch]) or by a variable of the
environment, such as MATRIX_CHANNEL_TORCH_TEST.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from matrix._util.addresses import AddressError, index_address
from matrix._util.nearest import suggested
from matrix.catalog.candidates.collection import CandidateError
from matrix.catalog.projects import Project

_FLAVOUR = re.compile(r"cpu|cu[0-9]{2,4}|rocm[0-9.]+|xpu")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One index by name; `published` is upstream's page about it, `what` describes its content."""

    name: str
    url: str
    what: str
    published: str


CHANNELS: Mapping[Project, tuple[Channel, ...]] = {
    Project.TORCH: (
        Channel(
            name="test",
            url="https://download.pytorch.org/whl/test/{flavour}",
            what="release candidates, with the version of the final",
            published="https://github.com/pytorch/pytorch/blob/main/RELEASE.md",
        ),
        Channel(
            name="nightly",
            url="https://download.pytorch.org/whl/nightly/{flavour}",
            what="nightly builds",
            published="https://pytorch.org/get-started/locally/",
        ),
    ),
    Project.VLLM: (
        Channel(
            name="nightly",
            url="https://wheels.vllm.ai/nightly/{flavour}",
            what="the newest commit of main",
            published="https://docs.vllm.ai/en/latest/getting_started/installation/gpu.html",
        ),
        Channel(
            name="commit",
            url="https://wheels.vllm.ai/{commit}/{flavour}",
            what="one commit of main",
            published="https://docs.vllm.ai/en/latest/getting_started/installation/gpu.html",
        ),
    ),
}
"""The built-in channels of each project."""


@dataclass(frozen=True, kw_only=True)
class ChosenIndex:
    """An index that a person asked for.

    `address` may hold credentials and is for asking alone; `index` is the same without them, for
    files and for people. `channel` is what names it, None if it was given by its address.
    """

    address: str
    index: str
    channel: str | None


def place_of(
    asked: str,
    project: Project,
    overrides: Mapping[str, Mapping[str, str]],
    *,
    flavour: str | None = None,
    option: str = "--index",
    environ: Mapping[str, str] = os.environ,
) -> ChosenIndex:
    """Return the index of `https://...`, `test`, `test/cu130`, `commit/SHA` or `commit/SHA/cu129`.

    `overrides` are the addresses of `candidates.toml`, `flavour` is the build of CUDA where none is
    named. Raises CandidateError, which names the channels that there are, and the option.
    """
    if "://" in asked:
        return ChosenIndex(address=asked, index=_address(asked, option), channel=None)
    name, *more = asked.strip("/").split("/")
    template, where = _template(name, project, overrides, environ, f"{option} {asked}")
    wanted: dict[str, str] = {}
    if "{commit}" in template:
        if not more or not _COMMIT.fullmatch(more[0]):
            raise CandidateError(
                f"{option} {asked}: the channel needs a commit; write it as {name}/SHA"
            )
        wanted["commit"] = more.pop(0)
    if len(more) > 1 or (more and not _FLAVOUR.fullmatch(more[0])):
        raise CandidateError(
            f"{option} {asked}: {'/'.join(more)!r} is not a build; write {name}/cu130 or {name}/cpu"
        )
    # vLLM's own index has its main build of CUDA without a folder of its own.
    wanted["flavour"] = more[0] if more else (flavour or "") if project is Project.TORCH else ""
    address = template
    for key, value in wanted.items():
        address = address.replace(f"{{{key}}}", value)
    address = address.rstrip("/")
    shown = "/".join(filter(None, (name, wanted.get("commit"), wanted["flavour"])))
    return ChosenIndex(address=address, index=_address(address, where), channel=shown)


def variable(project: Project, name: str) -> str:
    """Return the environment variable that overrides a channel.

    >>> variable(Project.TORCH, "test")
    'MATRIX_CHANNEL_TORCH_TEST'
    """
    return f"MATRIX_CHANNEL_{project}_{name}".upper()


def is_public(index: str) -> bool:
    """Tell whether an index is one of the built-in channels, which everybody knows.

    >>> is_public("https://wheels.vllm.ai/nightly"), is_public("https://wheels.vllm.ai.example/x")
    (True, False)
    """
    parts = urlsplit(index)
    return any(
        (parts.scheme, parts.netloc) == urlsplit(channel.url)[:2]
        for channels in CHANNELS.values()
        for channel in channels
    )


def _template(
    name: str,
    project: Project,
    overrides: Mapping[str, Mapping[str, str]],
    environ: Mapping[str, str],
    asked: str,
) -> tuple[str, str]:
    """Return the address of a channel, with its places, and who gave it, for an error."""
    own = variable(project, name)
    if value := environ.get(own, "").strip():
        return value, own
    written = overrides.get(project, {})
    if name in written:
        return written[name], f"channels: {project}: {name}"
    known = {channel.name: channel.url for channel in CHANNELS[project]}
    if name not in known:
        names = list(dict.fromkeys((*known, *written)))
        unknown = (
            f"{asked}: is not a channel of {project}; the channels are {', '.join(names)};"
            " or write the address of an index"
        )
        raise CandidateError(suggested(unknown, name, names))
    return known[name], f"the channel {name}"


def _address(text: str, where: str) -> str:
    try:
        return index_address(text)
    except AddressError as error:
        raise CandidateError(f"{where}: {error}") from None
