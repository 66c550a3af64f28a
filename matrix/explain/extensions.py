"""The answer to an extension of vLLM that did not load: with which torch each vLLM's links.

An operator in torch's namespace `_C` is one of vLLM's extensions (`vllm/_custom_ops.py`): torch
lacks it where the extension did not load, and vLLM only logs that: `Failed to import from vllm._C`
(https://github.com/vllm-project/vllm/issues/13593, https://github.com/vllm-project/vllm/issues/5501).

It asks the symbol tables. They do not say why it did not load: a GPU or a CUDA toolkit may lack.
"""

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


def extension_answer(
    fault: Fault, versions: TextVersions, choice: InstallChoice, evidence: SymbolEvidence
) -> FaultAnswer:
    """Return the pairs in which an extension links, and what to install where it does."""
    feature = fault.subject or ""
    if feature.startswith("_"):
        return _operator_answer(fault, versions, choice, evidence)
    linking = evidence.linking(feature)
    pairs = {(pair.vllm, pair.torch) for pair in linking.pairs}
    operands = {"python": linking.python}
    here = versions.vllm or "", versions.torch or ""
    if here[0] in linking.vllm.asked and here[0] not in linking.vllm.holds:
        operands |= {"without": here[0]}
    elif here[0] in linking.vllm.holds and here[1] in linking.torch.asked and here not in pairs:
        operands |= {"vllm": here[0], "torch": here[1]}
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.NEEDED_EXTENSION,
        torch=linking.torch,
        vllm=linking.vllm,
        pairs=linking.pairs,
        operands=operands,
        remedies=choice.installs(lambda row: (row.version, row.torch) in pairs, versions),
    )


def _operator_answer(
    fault: Fault, versions: TextVersions, choice: InstallChoice, evidence: SymbolEvidence
) -> FaultAnswer:
    """Return the pairs in which an extension, or vLLM's core, links, and how to find the cause."""
    feature = evidence.feature_of(fault.subject or "")
    linking = evidence.linking(feature)
    pairs = {(pair.vllm, pair.torch) for pair in linking.pairs}
    operands = {"python": linking.python, "links": feature or "the core"}
    here = versions.vllm or "", versions.torch or ""
    if here[0] in linking.vllm.holds and here[1] in linking.torch.asked and here not in pairs:
        operands |= {"vllm": here[0], "torch": here[1]}
    named = FaultRemedy(code=RemedyCode.NAMED_IMPORT)
    outside = FaultRemedy(code=RemedyCode.OUTSIDE_SOURCES)
    install = choice.installs(lambda row: (row.version, row.torch) in pairs, versions)
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.NO_OPERATOR,
        torch=linking.torch,
        vllm=linking.vllm,
        pairs=linking.pairs,
        operands=operands,
        remedies=(named, outside, *install),
    )
