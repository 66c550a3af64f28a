"""Names that a Python package of another version has: torch, transformers, and others; NumPy's ABI.

Pure, except that it reads vLLM's requirements. What is missing is in the text, and who asks for it
in the traceback. Which release of a package has a name is not in the data: vLLM's own requirements
are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from packaging.specifiers import SpecifierSet

from matrix.catalog.requirements import requirements_of
from matrix.explain.choice import InstallChoice
from matrix.explain.model import (
    Fault,
    FaultAnswer,
    FaultKind,
    FaultRemedy,
    Meaning,
    RemedyCode,
    TextVersions,
)

_OF = r"(?:torch|transformers|triton|cuda)"
_CUDA = "cuda-bindings"
_PROJECTS = {"cuda": _CUDA}
"""The projects whose folders have other names."""
_NO_NAME = re.compile(
    rf"cannot import name '(?P<name>\w{{1,100}})' from '(?P<module>{_OF}(?:\.\w{{1,80}}){{0,8}})'"
)
# That ending means that Python imported a file of that name instead of the package.
_NO_MODULE = re.compile(
    rf"No module named '(?P<module>{_OF}(?:\.\w{{1,80}}){{1,8}})'"
    r"(?!; '[\w.]{1,200}' is not a package)"
)
_NO_ATTRIBUTE = re.compile(
    rf"(?<!partially initialized )module '(?P<module>{_OF}(?:\.\w{{1,80}}){{1,8}})' has no"
    r" attribute '(?P<name>\w{1,100})'"
)
# Transformers 5 deleted it (https://github.com/huggingface/transformers/pull/40936), and vLLM read
# it (https://github.com/vllm-project/vllm/pull/29686).
_EXTENDED = re.compile(r"\w{1,80} has no attribute (?P<name>all_special_tokens_extended)\b")
_MODEL = re.compile(
    r"checkpoint you are trying to load has model type `(?P<name>[\w.-]{1,80})` but Transformers"
    r" does not recognize this architecture"
)
_NUMPY = re.compile(
    r"module that was compiled using NumPy (?P<wants>[\d.]{1,10}x?) cannot be run in"
    r"|numpy\.(?:dtype|ndarray|ufunc) size changed, may indicate binary incompatibility"
    r"|\b_ARRAY_API not found\b|\bNumpy is not available\b"
)
_NUMPY_HERE = re.compile(r"NumPy (?P<has>\d{1,2}\.\d{1,3}(?:\.\d{1,3})?)\b")
_FRAME = re.compile(r"File \"[^\"\n]*?/(?:site|dist)-packages/(?P<package>\w{1,80})[/.]")
IMPORT_MARKS: tuple[bytes, ...] = (
    b" 'torch",
    b" 'transformers",
    b" 'triton",
    b" 'cuda.",
    b"no attribute all_special_tokens_extended",
    b"does not recognize this architecture",
    b"compiled using NumPy ",
    b" size changed, may indicate binary",
    b"_ARRAY_API not found",
    b"Numpy is not available",
)
"""What a line must have that shows one of them."""
_NUMPY_NAME = "numpy"
_UNAVAILABLE = "Numpy is not available"  # as torch says of one that it could not load


def of_import(line: str, after: str) -> Fault | None:
    """Read a name, a module or a model that a package does not have, or NumPy's other ABI.

    `wants` is the package that another version is needed of.
    """
    for pattern in (_NO_NAME, _NO_MODULE, _NO_ATTRIBUTE):
        if found := pattern.search(line):
            module, name = found["module"], found.groupdict().get("name")
            if module == "torch.ops" or module.startswith("torch.ops."):
                return None  # an extension registers what is there
            if module == "torch._C" and name is not None and name.startswith("_cuda_"):
                return None  # a torch that is built for the CPU
            return Fault(
                kind=FaultKind.OTHER_PACKAGE,
                signature="",
                subject=f"{module}.{name}" if name else module,
                wants=_PROJECTS.get(top := module.partition(".")[0], top),
            )
    if found := _EXTENDED.search(line):
        return Fault(
            kind=FaultKind.OTHER_PACKAGE,
            signature="",
            subject=found["name"],
            wants="transformers",
        )
    if found := _MODEL.search(line):
        return Fault(kind=FaultKind.UNKNOWN_MODEL, signature="", subject=found["name"])
    if _NUMPY.search(line):
        here = _NUMPY_HERE.search(after[:40])
        return Fault(
            kind=FaultKind.OTHER_PACKAGE,
            signature="",
            subject=_NUMPY_NAME,
            has=here["has"] if here else None,
            wants=_NUMPY_NAME,
        )
    return None


def with_importer(fault: Fault, text: str) -> Fault:
    """Return the fault with the package whose file, the last of a traceback, asks for the name."""
    if fault.kind is not FaultKind.OTHER_PACKAGE or fault.package:
        return fault
    named = [found["package"] for found in _FRAME.finditer(text)]
    own = {fault.wants, "torch"} if fault.wants == _NUMPY_NAME else {fault.wants, "cuda"}
    others = [package for package in named if package not in own]
    return replace(fault, package=others[-1] if others else None)


def import_answer(fault: Fault, versions: TextVersions, choice: InstallChoice) -> FaultAnswer:
    """Return which range of a package vLLM needs, and what to install.

    It is that of the vLLM of the text, else of the newest. If the range has no upper bound, that of
    the next vLLM with one is added.
    """
    package = fault.wants or "transformers"
    if package == _NUMPY_NAME:
        remedies = (RemedyCode.NEWER_MODULE, RemedyCode.OLDER_NUMPY)
        return FaultAnswer(
            fault=fault,
            meaning=Meaning.OTHER_NUMPY,
            operands={"none": "perhaps"} if _UNAVAILABLE in fault.signature else {},
            remedies=tuple(FaultRemedy(code=code, what=fault.package) for code in remedies),
        )
    named = choice.row(versions.vllm or "")
    row = named or choice.newest()
    operands: dict[str, str] = {"package": package}
    own: tuple[FaultRemedy, ...] = ()
    if row is not None:
        operands |= _needed(package, row.version, choice)
        operands |= {"vllm": row.version, "of": "the text" if named else ""}
        if package == _CUDA and (more := choice.releases.constraints(row.version)):
            operands["with"] = ", ".join(more)
    if named is not None and package != "torch" and "range" in operands:
        bounds = ",".join(filter(None, (operands["range"], operands.get("bound"))))
        requirements = (f"vllm=={named.version}", f"{package}{bounds}")
        own = (FaultRemedy(code=RemedyCode.UPGRADE, requirements=requirements, what=package),)
    other: tuple[FaultRemedy, ...] = ()
    if fault.package not in (None, "vllm", "torch", package) and package != _CUDA:
        other = (FaultRemedy(code=RemedyCode.OTHER_RELEASE, what=fault.package),)
    is_model = fault.kind is FaultKind.UNKNOWN_MODEL
    every = choice.installs(lambda _: True, versions)
    return FaultAnswer(
        fault=fault,
        meaning=Meaning.UNKNOWN_MODEL if is_model else Meaning.NO_SUCH_NAME,
        operands=operands,
        remedies=(*own, *other, *(choice.install(choice.newest()) if own or is_model else every)),
    )


def _needed(package: str, vllm: str, choice: InstallChoice) -> Mapping[str, str]:
    """Return the range of a package that a vLLM needs, and a later one's upper bound for it."""
    known = {row.version: _range_of(package, row.version) for row in choice.vllms}
    bounds = known.get(vllm)
    if bounds is None:
        return {}
    if any(clause.operator in ("<", "<=", "==", "~=") for clause in bounds):
        return {"range": _in_order(bounds)}
    versions = list(known)
    for version in versions[versions.index(vllm) + 1 :]:
        upper = [clause for clause in known[version] or () if clause.operator in ("<", "<=")]
        if upper:
            return {"range": _in_order(bounds), "bound": str(upper[0]), "bound of": version}
    return {"range": _in_order(bounds)}


def _range_of(package: str, vllm: str) -> SpecifierSet | None:
    """Return the versions of a package that a vLLM needs; None if it does not name it."""
    return next((found.specifier for found in requirements_of(vllm, package)), None)


def _in_order(bounds: SpecifierSet) -> str:
    """Return a range with its lower bound first, as it is read."""
    return ",".join(
        sorted(map(str, bounds), key=lambda clause: (clause[0] == "<", clause[0] == "!", clause))
    )
