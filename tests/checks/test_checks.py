"""What the data says of a cell without a run: what is declared, what resolves, what links."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from matrix.catalog.cells import Cell, CellError
from matrix.catalog.release import Torch, Vllm
from matrix.catalog.releases import Releases
from matrix.catalog.releases_file import load_releases
from matrix.checks.declared import Declarations, declared
from matrix.checks.facts import facts_key, quoted
from matrix.checks.linkage.tables import (
    DescribedWheel,
    Extension,
    Library,
    Names,
    TorchSymbols,
    VllmSymbols,
    dump,
    file_name,
)
from matrix.checks.lookup import Answer, load_answers
from matrix.checks.resolution.cache import PLATFORM
from matrix.record.model import Platform
from matrix.report.facts import facts_words

RELEASES = load_releases()
SHIM, CXX = "aoti_torch_new_thing", "_ZN3c104cuda29c10_cuda_check_implementationEiPKcS2_jb"
CORE = "vllm/_C.abi3.so"


def tables(folder: Path, *extensions: Extension) -> Path:
    """vLLM 0.20.2, which pins torch 2.11.0, and torches of which only the pin exports all."""
    folder.mkdir()
    wheel = DescribedWheel(project="vllm", version="0.20.2", file="vllm.whl", sha256="00")
    (folder / file_name("vllm", "0.20.2")).write_bytes(
        dump(VllmSymbols(wheel=wheel, extensions=extensions, demangled={}))
    )
    for version, exports in (("2.10.0", ()), ("2.11.0", (SHIM, CXX)), ("2.12.1", ())):
        names = Names.of(name.encode() for name in exports)
        table = TorchSymbols(
            wheel=DescribedWheel(project="torch", version=version, file="torch.whl", sha256="00"),
            libraries=(Library(name="libtorch.so", needed=(), exports=names),),
        )
        (folder / file_name("torch", version)).write_bytes(dump(table))
    return folder


def core(*imports: str, needed: tuple[str, ...] = ("libtorch.so",)) -> Extension:
    return Extension(
        path=CORE,
        python=None,
        needed=needed,
        rpath=(),
        imports=imports,
        versioned={},
        exports=(),
        fault=None,
    )


STABLE = core(SHIM)


@pytest.mark.parametrize(
    ("torch", "extension", "ok", "promised"),
    [
        ("2.11.0", STABLE, True, False),
        ("2.12.1", STABLE, False, True),
        # An older torch never promised what came later, and C++ is promised by none.
        ("2.10.0", STABLE, False, False),
        ("2.12.1", core(SHIM, CXX), False, False),
        # A library of another CUDA is not torch's to keep, and a feature is not the core.
        ("2.12.1", core(needed=("libtorch.so", "libcudart.so.12")), False, False),
        ("2.12.1", replace(STABLE, path="vllm/third_party/deep_gemm/_C.abi3.so"), True, False),
    ],
)
def test_what_the_stable_abi_promises(
    tmp_path: Path, torch: str, extension: Extension, ok: bool, promised: bool
) -> None:
    answers = load_answers(RELEASES, tables=tables(tmp_path / "tables", extension))
    found = answers.links(Cell("3.12", torch, "0.20.2"))
    assert found is not None and (found.ok, found.promised) == (ok, promised)


def test_the_features_that_a_vllm_brings_and_whether_they_link(tmp_path: Path) -> None:
    deep_gemm = replace(STABLE, path="vllm/third_party/deep_gemm/_C.abi3.so")
    more = core(CXX), replace(deep_gemm, path="vllm/_flashmla_C.abi3.so", imports=())
    answers = load_answers(RELEASES, tables=tables(tmp_path / "tables", deep_gemm))
    for torch, links in (("2.11.0", True), ("2.12.1", False)):
        assert answers.features(Cell("3.12", torch, "0.20.2")) == {"DeepGEMM": links}
    answers = load_answers(RELEASES, tables=tables(tmp_path / "more", deep_gemm, *more))
    pinned = answers.features(Cell("3.12", "2.11.0", "0.20.2"))
    assert pinned == {"DeepGEMM": True, "FlashMLA": True}
    # Where the core does not link, or nobody read the torch, nothing is known of the others.
    assert answers.features(Cell("3.12", "2.12.1", "0.20.2")) is None
    assert answers.features(Cell("3.12", "2.9.0", "0.20.2")) is None


def test_the_package_s_tables_break_no_promise() -> None:
    """No published torch has taken a symbol from its stable ABI that a published vLLM uses."""
    answers = load_answers(RELEASES)
    found = [
        answers.links(Cell("3.12", torch.version, vllm.version))
        for torch in RELEASES.torch
        for vllm in RELEASES.vllm
    ]
    assert sum(answer is not None and not answer.ok for answer in found) > 0
    assert not any(answer.promised for answer in found if answer is not None)


def test_an_off_pin_cell_resolves_only_as_its_environment_installs_it(tmp_path: Path) -> None:
    def row(torch: str, *, forced: bool) -> dict[str, object]:
        return {
            "vllm": "0.20.2",
            "torch": torch,
            "python": "3.12",
            "platform": PLATFORM,
            "asked": "2026-11-23",
            "ok": False,
            "cause": "conflict",
            "reason": "a needs b",
            **({"override": {"torch": torch}} if forced else {}),
        }

    rows = [row("2.11.0", forced=False), row("2.10.0", forced=False), row("2.12.1", forced=True)]
    path = tmp_path / "resolutions.json"
    path.write_text(json.dumps({"resolutions": rows}), encoding="utf-8")
    answers = load_answers(RELEASES, resolutions=path)
    expected = Answer(ok=False, facts=quoted("a needs b"), asked="2026-11-23")
    found = {
        torch: answers.resolves(Cell("3.12", torch, "0.20.2"), Platform.CUDA)
        for torch in ("2.11.0", "2.10.0", "2.12.1", "2.9.1")
    }
    assert found == {"2.11.0": expected, "2.10.0": None, "2.12.1": expected, "2.9.1": None}


def test_a_damaged_table_is_named_once_and_answers_nothing(tmp_path: Path) -> None:
    folder = tables(tmp_path / "tables", STABLE)
    (folder / file_name("torch", "2.11.0")).write_bytes(b"{}\n")
    answers = load_answers(RELEASES, tables=folder)
    for python in ("3.12", "3.13"):
        assert answers.links(Cell(python, "2.11.0", "0.20.2")) is None
    assert answers.links(Cell("3.12", "2.9.0", "0.20.2")) is None
    (fault,) = answers.faults
    assert fault.startswith("torch-2.11.0.table: no symbol table")


LINUX = "manylinux_2_28_x86_64"


ARM = "manylinux_2_28_aarch64"


TORCH = (
    Torch(version="2.9.1"),
    Torch(
        version="2.10.0",
        python=SpecifierSet(">=3.10"),
        wheels={LINUX: ("cp310", "cp312", "cp313t")},
    ),
    Torch(version="2.11.0", yanked="broken metadata", wheels={ARM: ("cp312",)}),
)


VLLM = (
    Vllm(
        version="0.16.0",
        torch="2.9.1",
        torchvision="0.24.1",
        torchaudio="2.9.1",
        python=SpecifierSet(">=3.9"),
    ),
    Vllm(
        version="0.19.1",
        torch="2.10.0",
        torchvision="0.25.0",
        torchaudio="2.10.0",
        python=SpecifierSet("<3.14,>=3.9"),
        wheels={"manylinux1_x86_64": ("cp310-abi3",), ARM: ("cp39-abi3",)},
    ),
    Vllm(
        version="0.20.0",
        torch="2.11.0",
        torchvision="0.26.0",
        torchaudio="2.11.0",
        python=SpecifierSet(">=3.10"),
        yanked="bad wheel",
    ),
)


SMALL = Releases(
    torch=TORCH, vllm=VLLM, pythons=("3.9", "3.10", "3.12", "3.13", "3.14"), matrix_vllm=()
)


@pytest.mark.parametrize(
    ("cell", "ok", "off_pin", "fits", "reason"),
    [
        (("3.12", "2.10.0", "0.19.1"), True, False, True, None),
        (("3.12", "2.10", "0.19.1"), None, None, None, "torch 2.10 is not a known release"),
        (("3.12", "2.9.1", "0.19.1"), False, True, True, "vLLM 0.19.1 pins torch 2.10.0"),
        # Nothing says for which Pythons torch 2.9.1 is, so nothing speaks against it.
        (("3.14", "2.9.1", "0.16.0"), True, False, True, None),
        (("3.14", "2.9.1", "0.19.1"), False, True, False, "vLLM 0.19.1 needs Python >=3.9,<3.14"),
        (("3.9", "2.10.0", "0.16.0"), False, True, False, "torch 2.10.0 needs Python >=3.10"),
        (("3.9", "2.9.1", "0.19.1"), False, True, False, "vLLM 0.19.1 has no wheel for Python 3.9"),
        # A wheel for the free-threaded build is another one.
        (
            ("3.13", "2.10.0", "0.19.1"),
            False,
            False,
            False,
            "torch 2.10.0 has no wheel for Python 3.13",
        ),
        (
            ("3.12", "2.11.0", "0.20.0"),
            False,
            False,
            False,
            "torch 2.11.0 has no wheel for Linux x86_64",
        ),
    ],
)
def test_the_metadata_says_whether_a_cell_goes_together(
    cell: tuple[str, str, str],
    ok: bool | None,
    off_pin: bool | None,
    fits: bool | None,
    reason: str | None,
) -> None:
    if ok is None:
        with pytest.raises(CellError, match=str(reason)):
            declared(Cell(*cell), SMALL)
        return
    found = declared(Cell(*cell), SMALL)
    assert (found.ok, found.off_pin, found.fits) == (ok, off_pin, fits)
    assert facts_words(found.facts) == (reason or "")
    assert facts_key(found.facts) == (reason or "")


def test_what_is_no_release_is_named() -> None:
    with pytest.raises(CellError, match=r"vLLM 0\.99\.0 is not a known release; `matrix refresh`"):
        declared(Cell("3.12", "2.10.0", "0.99.0"), SMALL)


def test_a_yanked_release_fails_nothing() -> None:
    found = declared(Cell("3.12", "2.9.1", "0.20.0"), SMALL)
    assert facts_words(found.facts) == "vLLM 0.20.0 pins torch 2.11.0"
    torch = (Torch(version="2.9.1", yanked=""),)
    releases = Releases(torch=torch, vllm=VLLM[:1], pythons=("3.12",), matrix_vllm=())
    assert declared(Cell("3.12", "2.9.1", "0.16.0"), releases).ok


DECLARATIONS = Declarations(RELEASES)


def test_every_cell_of_the_matrix_is_declared() -> None:
    assert all(DECLARATIONS.of(cell).ok for cell in RELEASES.cells())


@given(
    st.sampled_from(RELEASES.pythons),
    st.sampled_from([release.version for release in RELEASES.torch]),
    st.sampled_from(RELEASES.vllm),
)
def test_a_failure_has_a_reason_and_a_pass_none(python: str, torch: str, vllm: Vllm) -> None:
    found = DECLARATIONS.of(Cell(python, torch, vllm.version))
    assert found.ok == (not found.facts) == (found.fits and not found.off_pin)
    assert found.off_pin == (torch != vllm.torch)
    assert found == declared(Cell(python, torch, vllm.version), RELEASES)
