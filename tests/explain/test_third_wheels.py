"""A wheel, or a library, of a third package: which torch has what it needs."""

import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from explained import apart, choice, commands, evidence, read
from matrix.checks.linkage.elf import ElfError
from matrix.explain.answer import Explainer
from matrix.explain.choice import package_of_wheel, rebuild
from matrix.explain.model import FaultKind, Meaning
from matrix.explain.third import ThirdWheel, read_third
from matrix.report.explain import command, five

LOGGER = "_ZN3c1013MessageLoggerC1EPKciib"
SOURCE = "extern int {0}(void); int PyInit_x(void) {{ return {0}(); }}"
NAME = "flash_attn-2.8.3-cp312-cp312-linux_x86_64.whl"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gcc = shutil.which("gcc")
    assert gcc is not None, "these tests need gcc, as does a cell"
    folder = tmp_path_factory.mktemp("third")
    (folder / "x.c").write_text(SOURCE.format(LOGGER), encoding="utf-8")
    # torch's libraries are not here; the loader asks for libtorch by its name.
    (folder / "t.c").write_text("int t(void) { return 0; }", encoding="utf-8")
    torch = folder / "libtorch.so"
    compiler = [gcc, "-shared", "-fPIC"]
    subprocess.run(
        [*compiler, "-o", str(torch), str(folder / "t.c")], check=True, capture_output=True
    )
    out = folder / "flash_attn_2_cuda.abi3.so"
    linked = ["-Wl,--no-as-needed", "-L", str(folder), "-ltorch"]
    command = [*compiler, "-o", str(out), str(folder / "x.c"), *linked]
    subprocess.run(command, check=True, capture_output=True)
    return out


def wheel_of(path: Path, library: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(library, "flash_attn/flash_attn_2_cuda.abi3.so")
        archive.writestr("flash_attn/__init__.py", "")
    return path


def explainer_of(third: ThirdWheel) -> Explainer:
    return Explainer(evidence=evidence(), choice=choice(), wheels=(third,))


def test_a_wheel_is_held_against_every_torch(tmp_path: Path, library: Path) -> None:
    explainer = explainer_of(read_third(wheel_of(tmp_path / NAME, library)))
    (answer,) = explainer.of_wheels()
    assert (answer.fault.kind, answer.meaning) == (FaultKind.WHEEL, Meaning.LINKS_WITH)
    assert answer.torch is not None
    assert answer.torch.holds == ("2.10.0",)
    assert commands(answer) == [apart("0.19.1", "2.10.0")]
    rows = five(answer)
    assert rows[0] == f"signature  {NAME}"
    assert rows[1] == "means      its extensions need 1 symbol of torch"
    assert rows[2].startswith(
        "releases   torch 2.10.0 alone has all that it needs; torch 2.15.0 lacks c10::MessageLogger"
    )


def test_a_symbol_of_a_text_says_that_the_wheel_needs_it(tmp_path: Path, library: Path) -> None:
    explainer = explainer_of(read_third(library))
    (answer,) = explainer.answers(read(LOGGER))
    assert answer.third == ("flash_attn_2_cuda.abi3.so",)
    assert "; flash_attn_2_cuda.abi3.so needs it; " in five(answer)[2]
    (other,) = explainer.answers(read("_ZN3c104cuda9SetDeviceEab"))
    assert other.third == ()


def test_a_wheel_that_no_torch_has_all_of_is_to_be_built_again(
    tmp_path: Path, library: Path
) -> None:
    content = library.read_bytes()
    other = tmp_path / "x.abi3.so"
    other.write_bytes(content.replace(LOGGER.encode(), LOGGER[:-1].encode() + b"z"))
    (answer,) = explainer_of(read_third(wheel_of(tmp_path / NAME, other))).of_wheels()
    assert answer.torch is not None
    assert answer.torch.holds == ()
    assert commands(answer)[0].endswith("--reinstall-package flash-attn flash-attn")
    assert five(answer)[2].startswith("releases   no torch from 2.9.0 to 2.15.0 has all that")


@pytest.mark.parametrize(
    ("file", "package"),
    [
        ("flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-cp312-cp312-linux_x86_64.whl", "flash-attn"),
        ("XFormers-0.0.33-cp39-abi3-manylinux_2_28_x86_64.whl", "xformers"),
        ("evil_pkg-1.0-py3-none-any.whl", None),
        ("vllm-0.19.1-cp38-abi3-manylinux_2_31_x86_64.whl", None),
        ("flash_attn;rm -rf x-1.0-py3-none-any.whl", None),
        ("$(x)-1.0-py3-none-any.whl", None),
        ("-flash-attn-1.0-py3-none-any.whl", None),
        ("flash_attn.whl", None),
        ("", None),
    ],
)
def test_only_a_known_package_of_a_valid_name_becomes_a_command(
    file: str, package: str | None
) -> None:
    assert package_of_wheel(file) == package
    remedy = rebuild(package)
    assert (command(remedy) is None) is (package is None)


def test_of_another_wheel_words_say_what_to_build_again(tmp_path: Path, library: Path) -> None:
    other = tmp_path / "x.abi3.so"
    other.write_bytes(library.read_bytes().replace(LOGGER.encode(), LOGGER[:-1].encode() + b"z"))
    path = wheel_of(tmp_path / "evil_pkg-1.0-cp312-cp312-linux_x86_64.whl", other)
    (answer,) = explainer_of(read_third(path)).of_wheels()
    assert commands(answer) == []
    assert five(answer)[4] == (
        f"to do      build the package of '{path.name}' again from its sources, with the torch"
        " that is installed"
    )


def test_a_wheel_that_links_with_every_torch_needs_nothing(tmp_path: Path, library: Path) -> None:
    third = read_third(wheel_of(tmp_path / NAME, library))
    file = replace(third.symbols.extensions[0], imports=(), needed=())
    symbols = replace(third.symbols, extensions=(file,))
    (answer,) = explainer_of(replace(third, symbols=symbols)).of_wheels()
    assert answer.torch is not None
    assert answer.torch.holds == answer.torch.asked
    assert (commands(answer), five(answer)[4]) == ([], "to do      nothing has to change")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.whl", b"", "give the wheel its own name"),
        (NAME, b"no archive", "cannot be read"),
        ("x.so", b"no library", "is not an ELF file; name a wheel or a shared object"),
        ("x.so", b"\x7fELF\x02\x01", "x.so: is"),
    ],
)
def test_what_is_no_wheel_or_library_is_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ElfError, match=message) as refusal:
        read_third(path)
    assert "\n" not in str(refusal.value)


def test_a_wheel_that_is_not_there_or_has_no_library_is_named(tmp_path: Path) -> None:
    with pytest.raises(ElfError, match="no such file"):
        read_third(tmp_path / NAME)
    with pytest.raises(ElfError, match="no such file"):
        read_third(tmp_path / "x.so")
    path = tmp_path / NAME
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.py", "")
    with pytest.raises(ElfError, match="contains no shared object"):
        read_third(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.so", "x")
    with pytest.raises(ElfError, match=r"a\.so is not an ELF file"):
        read_third(path)
