"""Candidates as `matrix candidate` prints them: a table, one in full, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matrix._util.text import aligned, clean, listed
from matrix.catalog.candidates.model import (
    WAYS,
    Candidate,
    Commit,
    File,
    OnCuda,
    OnIndex,
    Sdist,
    Tree,
    Wheel,
)
from matrix.catalog.candidates.update import Update, described_source
from matrix.catalog.cells import Made
from matrix.run.candidates.add import Added
from matrix.run.environment import AbsentCompanions


def render_list(candidates: Sequence[Candidate]) -> str:
    """Return a line for each candidate: name, version, identity, where it is from."""
    rows = [
        (
            candidate.name,
            clean(candidate.version),
            candidate.identity,
            clean(described_source(candidate)),
        )
        for candidate in candidates
    ]
    return "\n".join(aligned([("name", "version", "identity", "from"), *rows]))


def replaced_line(before: Candidate, after: Candidate, path: str) -> str:
    """Return that a build replaced the previous one, in the file of candidates."""
    return (
        f"{after.name} is {after.version} (build {after.identity}) now; it was"
        f" {before.version} (build {before.identity}); {path} was written"
    )


def absent_line(found: AbsentCompanions) -> str:
    """Return what a person must know if a torch lacks what its vLLM requires."""
    vllm = f"vLLM {found.vllm}" if found.is_release else found.vllm
    them = "it" if len(found.names) == 1 else "them"
    return (
        f"{found.torch} lacks {listed(found.names)}, but {vllm} requires {them}: failures"
        f" without {them} stay untested; add one with matrix candidate add {found.torch} ..."
        f" --companion {found.names[0]}==V"
    )


def render_candidate(candidate: Candidate, pythons: Sequence[str]) -> str:
    """Return all that is known of a candidate, a fact a line; `pythons` are those it runs on."""
    rows: list[tuple[str, str]] = [
        ("name", candidate.name),
        ("project", candidate.project),
        ("version", candidate.version),
        ("identity", candidate.identity),
        ("from", described_source(candidate)),
        *_source_rows(candidate),
        ("python", " ".join(pythons) or "none of the matrix's"),
    ]
    if candidate.cuda:
        rows.append(("cuda", candidate.cuda))
    if candidate.revision:
        rows.append(("git revision", candidate.revision))
    rows += [("own index", f"{name}=={version}") for name, version in candidate.pins.items()]
    rows += [("without", name) for name in candidate.without]
    rows += [("file", _file(file)) for file in candidate.files]
    rows += [("companion", _file(file)) for file in candidate.companions]
    if candidate.is_built:
        rows.append(("on cpu", "built from its sources without compiling, for every torch"))
        rows.append(("on cuda", on_cuda(candidate.on_cuda)))
        if candidate.on_cuda is not None:
            rows += [("cuda file", _file(file)) for file in candidate.on_cuda.files]
    return "\n".join(aligned([(name, clean(value)) for name, value in rows]))


def candidate_json(candidate: Candidate, pythons: Sequence[str]) -> dict[str, Any]:
    """Return a candidate as JSON has it."""
    source = candidate.source
    keys: dict[type[object], tuple[str, ...]] = {
        OnIndex: ("index", "version", "channel"),
        Wheel: ("location", "sha256"),
        Commit: ("repository", "revision"),
        Tree: ("path", "state"),
        Sdist: ("location", "sha256"),
    }
    return {
        "name": candidate.name,
        "project": str(candidate.project),
        "version": candidate.version,
        "identity": candidate.identity,
        "release": candidate.key,
        "source": {
            "kind": str(source.kind),
            **{key: getattr(source, key) for key in keys[type(source)]},
        },
        "pythons": list(pythons),
        "cuda": candidate.cuda,
        "revision": candidate.revision,
        "pins": dict(candidate.pins),
        "without": list(candidate.without),
        "files": [_file_json(file) for file in candidate.files],
        "companions": [_file_json(file) for file in candidate.companions],
        "on_cuda": _on_cuda_json(candidate.on_cuda),
    }


def added_lines(added: Added) -> list[str]:
    """Return what an addition did, and what a person must know about the candidate."""
    candidate = added.candidate
    what = {
        Update.ADDED: "added",
        Update.REPLACED: "added; it replaces the previous build",
        Update.UNCHANGED: "exists already, with the same build",
    }[added.update]
    pythons = (
        f"Python {listed(list(added.pythons))}" if added.pythons else "no Python of the matrix"
    )
    lines = [
        f"{candidate.name} {what}: {candidate.project} {candidate.version} for {pythons}",
        f"  from {described_source(candidate)}, identity {candidate.identity}",
        *(f"  with {file.name}" for file in candidate.companions),
        *(f"  note: {note}" for note in added.notes),
    ]
    if candidate.is_built and candidate.on_cuda is not None:
        lines.append(f"  on cuda: {on_cuda(candidate.on_cuda)}")
    if added.cell is not None:
        lines.append(f"  run it with tox -e {added.cell}")
    return [clean(line) for line in lines]


def on_cuda(way: OnCuda | None) -> str:
    """Return how a vLLM from sources is had on the platform cuda."""
    if way is None:
        return "not known: add it again with --platform cuda"
    if way.way is Made.COMPILED:
        return "compiled here by vLLM's own build, for the torch and the GPU of its cell"
    names = listed([file.name for file in way.files])
    if way.way is Made.PUBLISHED:
        return f"the published wheel of its commit, {names} of {way.index}"
    return f"Python from its sources, the extensions of {names}"


def _on_cuda_json(way: OnCuda | None) -> dict[str, Any] | None:
    if way is None:
        return None
    files = [_file_json(file) for file in way.files]
    return {"way": WAYS[way.way], "index": way.index, "files": files}


def _source_rows(candidate: Candidate) -> list[tuple[str, str]]:
    source = candidate.source
    return [("index", source.index)] if isinstance(source, OnIndex) else []


def _file(file: File) -> str:
    return f"{file.name} {file.uploaded or ''} sha256:{file.sha256}".replace("  ", " ")


def _file_json(file: File) -> dict[str, Any]:
    return {
        "name": file.name,
        "url": file.url,
        "sha256": file.sha256,
        "size": file.size,
        "uploaded": file.uploaded,
    }
