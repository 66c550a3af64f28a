"""The answer to a compiled module of vLLM that is missing, from the names of its wheels' files."""

from __future__ import annotations

from matrix.explain.choice import InstallChoice
from matrix.explain.evidence import SymbolEvidence
from matrix.explain.model import (
    Fault,
    FaultAnswer,
    FaultRemedy,
    Meaning,
    RemedyCode,
    TextVersions,
)


def module_answer(
    fault: Fault, versions: TextVersions, choice: InstallChoice, evidence: SymbolEvidence
) -> FaultAnswer:
    """Return which vLLM has a module, and what to install where one has it.

    Python that starts in the folder of vLLM's sources imports those, which have no compiled
    module, whatever is installed. A module that no wheel has is unknown: vLLM has modules of Python
    whose names look alike, such as `vllm._custom_ops`.
    """
    having = evidence.having((fault.subject or "").replace(".", "/"))
    if not having.releases.holds:
        return FaultAnswer(fault=fault, meaning=Meaning.UNKNOWN)
    holds = set(having.releases.holds)
    outside = FaultRemedy(code=RemedyCode.OUTSIDE_SOURCES)
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.NOT_BUILT,
        vllm=having.releases,
        files=having.files,
        remedies=(*choice.installs(lambda row: row.version in holds, versions), outside),
    )
