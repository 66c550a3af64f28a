"""Files that a package lists and that are not there, or not whole."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from matrix.run import installed_files
from matrix.run.installed_files import broken_since, look_at_files
from matrix.run.preflight import Refusal

Install = Callable[[str, dict[str, bytes]], None]


def broken_install(cell: str) -> Refusal | None:
    return installed_files.broken_install(look_at_files(), cell)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


@pytest.fixture
def install(site: Path) -> Install:
    def put(name: str, files: dict[str, bytes]) -> None:
        rows = []
        for path, content in files.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_bytes(content)
            rows.append(f"{path},sha256=x,{len(content)}")
        folder = site / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        rows += ["../../bin/tool,sha256=x,7", f"{name}/__pycache__/a.pyc,,", "short,row"]
        (folder / "RECORD").write_text("\n".join(rows) + "\n")

    return put


@pytest.fixture
def cell(install: Install) -> None:
    install("torch", {"torch/__init__.py": b"1", "torch/lib/libtorch.so": b"x" * 100})
    install("vllm", {"vllm/__init__.py": b"1", "vllm/_C.abi3.so": b"y" * 50})
    other = {"other/__init__.py": b"1", "other/a.so": b"z" * 5, "other/b.py": b"2"}
    install("other", {**other, "other/data.json": b"{}"})


@pytest.mark.usefixtures("cell")
def test_whole_packages_are_not_refused() -> None:
    assert broken_install("py311-torch210") is None


@pytest.mark.usefixtures("cell")
def test_a_library_that_was_cut_short_is_named_with_the_fix(site: Path) -> None:
    (site / "vllm/_C.abi3.so").write_bytes(b"y")
    refusal = broken_install("py311-torch210")
    assert refusal is not None and refusal.kind == "broken_install"
    assert "vllm/_C.abi3.so has 1 of 50 bytes" in refusal.reason
    assert refusal.reason.endswith("by tox -r -e py311-torch210") and "\n" not in refusal.reason


@pytest.mark.usefixtures("cell")
def test_a_library_that_is_gone_is_named(site: Path) -> None:
    (site / "torch/lib/libtorch.so").unlink()
    refusal = broken_install("c")
    assert refusal is not None and "torch lacks torch/lib/libtorch.so" in refusal.reason


@pytest.mark.usefixtures("cell")
def test_a_module_of_torch_that_is_gone_is_named_and_an_edited_one_is_not(site: Path) -> None:
    (site / "torch/__init__.py").write_bytes(b"edited")
    (site / "other/b.py").unlink()
    assert broken_install("c") is None
    (site / "torch/__init__.py").unlink()
    refusal = broken_install("c")
    assert refusal is not None and "torch lacks torch/__init__.py" in refusal.reason


@pytest.mark.usefixtures("cell")
def test_a_package_that_was_deleted_is_named(site: Path) -> None:
    for path in (site / "other").iterdir():
        path.unlink()
    refusal = broken_install("c")
    assert refusal is not None and "other lacks 3 of 3 files" in refusal.reason


@pytest.mark.usefixtures("cell")
def test_what_another_package_wrote_over_is_not_refused(site: Path) -> None:
    (site / "other/a.so").write_bytes(b"of another package")
    assert broken_install("c") is None


@pytest.mark.usefixtures("cell")
@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"", b'"unclosed', b"/etc/none.py,x,7\n../x.py,x,7\n"]
)
def test_an_unreadable_list_says_nothing(site: Path, content: bytes) -> None:
    (site / "other-1.0.dist-info/RECORD").write_bytes(content)
    assert broken_install("c") is None


@pytest.mark.usefixtures("cell")
def test_a_name_that_no_file_can_have_is_a_file_that_is_not_there(site: Path) -> None:
    (site / "other-1.0.dist-info/RECORD").write_bytes(b"a\0b.py,x,7\n")
    refusal = broken_install("c")
    assert refusal is not None and "other lacks 1 of 1 files" in refusal.reason


@pytest.mark.usefixtures("cell")
def test_many_faults_are_counted(site: Path, install: Install) -> None:
    for number in range(6):
        install(f"gone{number}", {f"gone{number}/__init__.py": b"1"})
        (site / f"gone{number}/__init__.py").unlink()
    refusal = broken_install("c")
    assert refusal is not None and "and 2 more" in refusal.reason


@pytest.mark.usefixtures("cell")
def test_files_that_stay_as_they_were_did_not_break(site: Path, install: Install) -> None:
    install("pyc", {"pyc/__pycache__/a.pyc": b"1"})
    (site / "vllm/_C.abi3.so").write_bytes(b"y")
    (site / "other/b.py").unlink()
    before = look_at_files()
    (site / "pyc/__pycache__/a.pyc").write_bytes(b"compiled by another Python")
    (site / "torch/new").write_bytes(b"of no package")
    assert broken_since(before, "c") is None


@pytest.mark.usefixtures("cell")
@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("torch/lib/libtorch.so", None, "torch/lib/libtorch.so of torch is gone"),
        ("torch/lib/libtorch.so", b"x", "torch/lib/libtorch.so of torch has 1 of 100 bytes"),
        ("other/b.py", None, "other/b.py of other is gone"),
        ("other/data.json", b"", "other/data.json of other has 0 of 2 bytes"),
    ],
)
def test_a_file_of_any_package_that_breaks_during_a_run_is_named(
    site: Path, path: str, content: bytes | None, said: str
) -> None:
    before = look_at_files()
    (site / path).unlink()
    if content is not None:
        (site / path).write_bytes(content)
    refusal = broken_since(before, "py311-torch210")
    assert refusal is not None and refusal.kind == "broken_install"
    assert refusal.reason == (
        f"installed files changed while the cell ran: {said}:"
        " make the environment again by tox -r -e py311-torch210"
    )


@pytest.mark.usefixtures("cell")
def test_a_package_that_vanishes_with_its_list_is_named(site: Path) -> None:
    before = look_at_files()
    shutil.rmtree(site / "torch")
    shutil.rmtree(site / "other")
    shutil.rmtree(site / "other-1.0.dist-info")
    refusal = broken_since(before, "c")
    assert refusal is not None and "; " in refusal.reason and " and 2 more:" in refusal.reason
