"""Real folders of metadata, read as a cell's Python reads them."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from candidates import commit_candidate, torch_candidate, with_candidates
from matrix.bundle.run import LEFT_OUT_FILE
from matrix.catalog.cells import Cell
from matrix.catalog.release import Torch
from matrix.catalog.releases_file import load_releases
from matrix.record.model import By, Departure, Why
from matrix.record.stock import not_stock
from matrix.report.candidates import absent_line
from matrix.run.environment import (
    absent_companions,
    left_out_by_bundle,
    look,
    read_environment,
    wrong_packages,
)

RELEASES = load_releases()
ON_PIN = Cell("3.11", "2.11.0", "0.26.0")
OFF_PIN = Cell("3.11", "2.12.1", "0.26.0")
VLLM = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0", "Flashinfer-Python==0.6.14")


def install(folder: Path, name: str, version: str, *requires: str, top_level: str = "") -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {line}" for line in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n\nThe long description.\n")
    if top_level:
        (info / "top_level.txt").write_text(f"{top_level}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder of packages, the only one of this Python, in an empty prefix."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder)])
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return folder


def stock(site: Path, torch: str = "2.11.0", torchvision: str = "0.26.0") -> None:
    install(site, "vllm", "0.26.0", *VLLM)
    install(site, "torch", torch)
    install(site, "torchvision", torchvision, f"torch=={torch}")


def test_every_package_is_found_by_its_normalized_name(site: Path) -> None:
    install(site, "Py_YAML", "6.0")
    install(site, "a", "1.0")
    assert dict(read_environment().versions) == {"a": "1.0", "py-yaml": "6.0"}
    assert look(read_environment(), ON_PIN, RELEASES) == ()


def test_what_vllm_requires_is_looked_for(site: Path) -> None:
    stock(site)
    install(site, "torchaudio", "2.11.0", "torch==2.11.0")
    install(site, "flashinfer_python", "0.6.13", top_level="flashinfer")
    assert look(read_environment(), ON_PIN, RELEASES) == (
        Departure(
            name="flashinfer-python",
            required="Flashinfer-Python==0.6.14",
            installed="0.6.13",
            why=Why.OTHER_VERSION,
            imports=("flashinfer",),
        ),
    )


def test_what_is_missing_is_refused_in_one_line(site: Path) -> None:
    stock(site)
    found = look(read_environment(), ON_PIN, RELEASES)
    refusal = wrong_packages(found, ON_PIN, "2.11.0")
    assert refusal is not None and "\n" not in refusal.reason
    assert (
        "what vLLM 0.26.0 requires: Flashinfer-Python==0.6.14 is missing, torchaudio==2.11.0 is"
        " missing; install them, or make the environment again by tox -r -e"
    ) in refusal.reason


def test_a_long_list_is_cut(site: Path) -> None:
    install(site, "vllm", "0.26.0", *(f"a{number}" for number in range(40)))
    refusal = wrong_packages(look(read_environment(), ON_PIN, RELEASES), ON_PIN, "2.11.0")
    assert refusal is not None and "32 more" in refusal.reason


def test_what_a_bundle_leaves_out_prevents_nothing(site: Path, tmp_path: Path) -> None:
    stock(site)
    (tmp_path / LEFT_OUT_FILE).write_text('["flashinfer_python", "torchaudio", "ray"]')
    found = look(read_environment(), ON_PIN, RELEASES)
    assert [(departure.name, departure.by) for departure in found] == [
        ("flashinfer-python", By.BUNDLE),
        ("torchaudio", By.BUNDLE),
    ]
    assert not_stock(found) == found
    assert wrong_packages(found, ON_PIN, "2.11.0") is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", "[" * 100_000, "\ud800"])
def test_a_damaged_list_of_a_bundle_excuses_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / LEFT_OUT_FILE).write_bytes(text.encode("utf-8", "surrogatepass"))
    assert not left_out_by_bundle(tmp_path)


def test_an_off_pin_cell_overrides_torch_and_may_go_without_a_companion(site: Path) -> None:
    row = Torch(version="2.12.1", torchvision="0.27.1", without=("torchaudio",))
    torch = [row if old.version == row.version else old for old in RELEASES.torch]
    releases = replace(RELEASES, torch=tuple(torch))
    stock(site, "2.12.1", "0.27.1")
    install(site, "flashinfer_python", "0.6.14")
    found = look(read_environment(), OFF_PIN, releases)
    assert [(departure.name, departure.why, departure.by) for departure in found] == [
        ("torch", Why.OVERRIDDEN, By.OVERRIDE),
        ("torchaudio", Why.MISSING, By.OVERRIDE),
        ("torchvision", Why.OVERRIDDEN, By.OVERRIDE),
    ]
    assert not_stock(found) == ()
    assert wrong_packages(found, OFF_PIN, "2.12.1") is None


def test_a_companion_that_the_overrides_name_must_be_there(site: Path) -> None:
    stock(site, "2.12.1", "0.27.1")
    install(site, "flashinfer_python", "0.6.14")
    refusal = wrong_packages(look(read_environment(), OFF_PIN, RELEASES), OFF_PIN, "2.12.1")
    assert refusal is not None and "requires: torchaudio==2.11.0 is missing;" in refusal.reason


def test_the_torch_of_a_candidate_is_what_its_cell_names(site: Path) -> None:
    cell = Cell("3.11", "2.99.0", "0.26.0")
    stock(site, "2.99.0", "0.99.0")
    install(site, "flashinfer_python", "0.6.14")
    found = look(read_environment(), cell, RELEASES)
    assert {departure.by for departure in found} == {By.OVERRIDE}
    assert wrong_packages(found, cell, "2.99.0") is None


def test_what_the_sources_of_an_empty_build_require_is_named(site: Path) -> None:
    releases = with_candidates(commit_candidate(), torch_candidate())
    cell = releases.resolve("py312-torch216rc1-vllmfix")
    install(site, "torch", "2.16.0+cu130")
    install(site, "torchvision", "0.30.0+cu130")
    install(site, "vllm", "0.34.0.dev5+g414141414.empty", "numpy")
    install(site, "numpy", "2.0")
    audio = look(read_environment(), cell, releases)
    assert audio == (
        Departure(
            name="torchaudio",
            required="torchaudio==2.11.0",
            installed=None,
            why=Why.MISSING,
            by=By.OVERRIDE,
        ),
    )
    assert not_stock(audio) == () and wrong_packages(audio, cell, "2.16.0+cu130") is None
    # What the cell does not leave out on purpose prevents the run.
    on_pin = releases.resolve("py312-torch214-vllmfix")
    refusal = wrong_packages(look(read_environment(), on_pin, releases), on_pin, "2.14.0")
    assert refusal is not None and "torchaudio==2.11.0 is missing" in refusal.reason


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        (
            "py312-torch216rc1-vllm033",
            "torch216rc1 lacks torchvision and torchaudio, but vLLM 0.33.0 requires them:",
        ),
        (
            "py312-torch216rc1-vllmfix",
            "torch216rc1 lacks torchvision and torchaudio, but vllmfix requires them:",
        ),
        ("py312-torch216rc2-vllm033", "torch216rc2 lacks torchaudio, but vLLM 0.33.0"),
        ("py312-torch215-vllm033", None),
        ("py312-torch214-vllm033", None),
    ],
)
def test_a_torch_candidate_without_what_vllm_requires_is_explained_in_one_line(
    cell: str, line: str | None
) -> None:
    bare = replace(torch_candidate(), companions=(), without=("torchvision", "torchaudio"), pins={})
    releases = with_candidates(bare, torch_candidate("torch216rc2"), commit_candidate())
    found = absent_companions(releases.resolve(cell), releases)
    if line is None:
        assert found is None
    else:
        assert found is not None
        text = absent_line(found)
        assert text.startswith(line) and "\n" not in text
        assert text.endswith("==V") and "stay untested" in text


def test_a_torchvision_for_another_torch_is_refused(site: Path) -> None:
    install(site, "vllm", "0.26.0", "torchvision")
    install(site, "torch", "2.12.1+cu130")
    install(site, "torchvision", "0.26.0", "torch==2.11.0")
    found = look(read_environment(), OFF_PIN, RELEASES)
    refusal = wrong_packages(found, OFF_PIN, "2.12.1+cu130")
    assert refusal is not None
    assert "torchvision 0.26.0 is for torch==2.11.0, and torch is 2.12.1+cu130" in refusal.reason


def test_two_versions_in_one_folder_are_named_and_in_two_the_first_counts(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "vllm", "0.26.0", "numpy>=2")
    install(site, "numpy", "2.2.6")
    behind = tmp_path / "behind"
    install(behind, "numpy", "1.26.4")
    monkeypatch.setattr(sys, "path", [str(site), str(behind)])
    assert look(read_environment(), ON_PIN, RELEASES) == ()
    install(site, "numpy", "1.26.4")
    (found,) = look(read_environment(), ON_PIN, RELEASES)
    assert found.why is Why.TWO_VERSIONS
    assert sorted(str(found.installed).split(" and ")) == ["1.26.4", "2.2.6"]


def test_metadata_that_nobody_can_read_is_never_a_traceback(site: Path) -> None:
    install(site, "vllm", "0.26.0", "a", "b<<1", "c", "d")
    install(site, "a", "1.0", 'x ; nothing == "1"')
    (site / "b-1.0.dist-info").mkdir()
    install(site, "c", "not a version")
    info = site / "d-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_bytes(b"Name: d\nVersion: 1.0\nSummary: \xff\xfe\n")
    found = look(read_environment(), ON_PIN, RELEASES)
    assert [(departure.name, departure.why) for departure in found] == [
        ("a", Why.UNREADABLE),
        ("d", Why.MISSING),
        ("vllm", Why.UNREADABLE),
    ]


def test_packages_of_an_old_kind_are_read(site: Path) -> None:
    install(site, "vllm", "0.26.0", "old")
    info = site / "old.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: old\nVersion: 1.0\n")
    (info / "requires.txt").write_text("numpy>=2\n")
    assert [departure.name for departure in look(read_environment(), ON_PIN, RELEASES)] == ["numpy"]
