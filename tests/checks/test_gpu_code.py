"""What is read of a wheel's GPU code and glibc, and which chips the code is for."""

from __future__ import annotations

import hashlib
import importlib.util
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.catalog.hardware import Capability
from matrix.catalog.published_file import PublishedFile
from matrix.checks.gpu_code.fill import lacking
from matrix.checks.gpu_code.fits import CodeFit, code_for, fit_of
from matrix.checks.gpu_code.images import fatbins
from matrix.checks.gpu_code.read import WheelReadError, read_wheel, read_wheels
from matrix.checks.gpu_code.wheels import (
    ReadWheel,
    ReadWheels,
    WheelsError,
    load_wheels,
    to_json,
)

PTX, CUBIN = 1, 2
ONLY = {"": 0, "a": 1 << 20, "f": 1 << 21}
NAME = "vllm-0.26.0-cp38-abi3-manylinux_2_28_x86_64.whl"


def fatbin(*images: tuple[int, int, str]) -> bytes:
    body = b""
    for kind, arch, only in images:
        header = struct.pack("<HHIQ12xI", kind, 0x101, 64, 8, arch) + bytes(8)
        body += (header + struct.pack("<Q", 0x11 | ONLY[only])).ljust(64, b"\0") + b"code" * 2
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def library(*bins: bytes) -> bytes:
    content = b"".join(bins)
    names = b"\0.nv_fatbin\0"
    table = 64 + len(content) + len(names)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    rows = [
        struct.pack("<IIQQQQIIQQ", *[0] * 10),
        struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, 64, len(content), 0, 0, 1, 0),
        struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 64 + len(content), len(names), 0, 0, 1, 0),
    ]
    return head + content + names + b"".join(rows)


MAIN = library(
    fatbin((CUBIN, 80, ""), (CUBIN, 90, ""), (CUBIN, 90, "a")),
    fatbin((CUBIN, 80, ""), (CUBIN, 90, ""), (CUBIN, 90, "a")),
    fatbin((CUBIN, 100, "f"), (PTX, 80, "")),
)


def wheel(folder: Path, name: str = NAME, more: Mapping[str, bytes] | None = None) -> Path:
    files = {
        "vllm/_C.abi3.so": MAIN,
        "vllm/_flashmla_C.abi3.so": library(fatbin((CUBIN, 90, "a"))),
        "vllm/empty.so": b"",
        "vllm/__init__.py": b"",
        "vllm-0.26.0.dist-info/RECORD": b"vllm/__init__.py,,\n",
        **(more or {}),
    }
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in files.items():
            archive.writestr(member, content)
    return path


def test_an_image_is_for_one_chip_for_a_family_or_for_all_that_follow() -> None:
    (images,) = list(fatbins(library(fatbin((CUBIN, 90, "a"), (CUBIN, 100, "f"), (PTX, 80, "")))))
    assert [image.name for image in images] == ["sm_90a", "sm_100f", "compute_80"]


def test_the_code_of_a_wheel_is_read(tmp_path: Path) -> None:
    found = read_wheel(wheel(tmp_path))
    assert (found.project, found.version, found.machine) == ("vllm", "0.26.0", "x86_64")
    assert found.record == hashlib.sha256(b"vllm/__init__.py,,\n").hexdigest()
    assert found.code["vllm/_C.abi3.so"] == {
        frozenset({"sm_80", "sm_90", "sm_90a"}): 2,
        frozenset({"sm_100f", "compute_80"}): 1,
    }


def test_the_newest_glibc_that_a_library_needs_is_read(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("_ssl")
    if spec is None or not str(spec.origin).endswith(".so"):
        pytest.skip("this Python has no library of its own")
    content = Path(str(spec.origin)).read_bytes()
    found = read_wheel(wheel(tmp_path, more={"vllm/host.so": content}))
    assert found.glibc is not None and found.glibc.startswith("2.")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("numpy-2.0.0-cp312-cp312-manylinux_2_28_x86_64.whl", "is not a wheel of torch or vLLM"),
        ("torch-2.0.0-cp312-cp312-win_amd64.whl", "is not a wheel of torch or vLLM for Linux"),
        ("torch-2.0.0+cu129-cp312-cp312-linux_x86_64.whl", "is another flavour"),
        ("torch.whl", "name a wheel of torch or vLLM"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(WheelReadError, match=why):
        read_wheel(wheel(tmp_path, name))


def test_what_cannot_be_read_is_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    bad = tmp_path / "vllm-0.27.0-cp38-abi3-manylinux_2_28_x86_64.whl"
    bad.write_bytes(b"no archive")
    printed: list[str] = []
    faults = read_wheels([bad, wheel(tmp_path)], tmp_path / "wheels.json", printed.append)
    assert len(faults) == 1 and faults[0].startswith(f"{bad.name}: cannot be read")
    assert printed == [f"{NAME}: 4 fatbins, glibc None"]
    assert set(load_wheels(tmp_path / "wheels.json").known) == {("vllm", "0.26.0", "x86_64")}


def test_a_damaged_library_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(WheelReadError, match="damaged library"):
        read_wheel(wheel(tmp_path, more={"vllm/cut.so": b"\x7fELF\x02\x01\x01" + bytes(30)}))


names = st.builds(
    lambda kind, arch, only: f"{kind}_{arch}{only}",
    st.sampled_from(["sm", "compute"]),
    st.sampled_from([70, 75, 80, 86, 89, 90, 100, 103, 120, 121]),
    st.sampled_from(["", "a", "f"]),
)
wheels = st.builds(
    ReadWheel,
    project=st.sampled_from(["torch", "vllm"]),
    version=st.sampled_from(["2.10.0", "0.26.0"]),
    machine=st.sampled_from(["x86_64", "aarch64"]),
    file=st.just("a.whl"),
    record=st.just("00"),
    glibc=st.none() | st.just("2.28"),
    code=st.dictionaries(
        st.sampled_from(["vllm/_C.abi3.so", "torch/lib/libtorch_cuda.so"]),
        st.dictionaries(
            st.frozensets(names, min_size=1, max_size=3), st.integers(1, 9), min_size=1, max_size=3
        ),
    ),
)


@given(st.lists(wheels, max_size=3))
def test_the_file_holds_what_was_read(read: list[ReadWheel]) -> None:
    import tempfile

    known = ReadWheels().including(read)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "wheels.json")
        path.write_text(to_json(known), encoding="utf-8")
        again = load_wheels(path)
    assert again.known == known.known and to_json(again) == to_json(known)


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"wheels": [1]}', '{"wheels": [{"project": "torch"}]}', "{", ""],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wheels.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WheelsError, match=r"wheels\.json"):
        load_wheels(path)


@pytest.mark.parametrize(
    ("images", "chip", "fit"),
    [
        ("sm_90", (9, 0), CodeFit.OWN),
        ("sm_80", (8, 9), CodeFit.NEAR),
        ("sm_80", (8, 7), CodeFit.NONE),
        ("sm_80 compute_80", (8, 7), CodeFit.PTX),
        ("sm_87", (8, 7), CodeFit.OWN),
        ("sm_87", (8, 9), CodeFit.NONE),
        ("sm_72", (7, 5), CodeFit.NONE),
        ("sm_70", (7, 2), CodeFit.NONE),
        ("sm_89", (8, 6), CodeFit.NONE),
        ("sm_120", (12, 1), CodeFit.NEAR),
        ("sm_120a", (12, 1), CodeFit.NONE),
        ("sm_120f", (12, 1), CodeFit.NEAR),
        ("sm_100f", (10, 3), CodeFit.NEAR),
        ("sm_100f", (12, 0), CodeFit.NONE),
        ("sm_90a", (9, 0), CodeFit.OWN),
        ("sm_90a", (10, 0), CodeFit.NONE),
        ("compute_80", (12, 0), CodeFit.PTX),
        ("compute_90a", (10, 0), CodeFit.NONE),
        ("compute_90", (8, 9), CodeFit.NONE),
        ("nonsense", (9, 0), CodeFit.NONE),
        ("", (9, 0), CodeFit.NONE),
    ],
)
def test_what_a_chip_can_run(images: str, chip: tuple[int, int], fit: CodeFit) -> None:
    assert fit_of(images.split(), Capability(*chip)) is fit


@given(st.frozensets(names), names, st.sampled_from([(7, 5), (8, 9), (9, 0), (10, 3), (12, 1)]))
def test_more_code_never_fits_worse(
    images: frozenset[str], more: str, chip: tuple[int, int]
) -> None:
    order = list(CodeFit)
    capability = Capability(*chip)
    with_more = order.index(fit_of(images | {more}, capability))
    assert with_more <= order.index(fit_of(images, capability))


def test_most_of_the_main_library_decides(tmp_path: Path) -> None:
    found = read_wheel(wheel(tmp_path))
    h100 = code_for(found, Capability(9, 0))
    assert h100 is not None
    assert (h100.fit, h100.without) == (CodeFit.OWN, ())
    # One fatbin of three has PTX for this one: that is a kernel, not the library.
    b200 = code_for(found, Capability(10, 0))
    assert b200 is not None
    assert (b200.fit, b200.without) == (CodeFit.NONE, ("FlashMLA",))
    assert b200.archs == ("sm_80", "sm_90", "sm_90a")


def test_a_flash_attention_that_a_chip_cannot_run_is_named(tmp_path: Path) -> None:
    folder = "vllm/vllm_flash_attn"
    more = {
        f"{folder}/_vllm_fa2_C.abi3.so": library(fatbin((CUBIN, 80, ""), (PTX, 80, ""))),
        f"{folder}/_vllm_fa3_C.abi3.so": library(fatbin((CUBIN, 90, "a"))),
    }
    found = read_wheel(wheel(tmp_path, more=more))

    def without(*chip: int) -> tuple[str, ...] | None:
        code = code_for(found, Capability(*chip))
        return None if code is None else code.without

    assert without(9, 0) == ()
    assert without(8, 0) == ("FlashAttention 3", "FlashMLA")
    assert without(7, 5) == ("FlashAttention 2", "FlashAttention 3", "FlashMLA")


def published(version: str, tag: str, project: str = "vllm") -> PublishedFile:
    name = f"{project}-{version}-{tag}.whl"
    return PublishedFile(project=project, version=version, filename=name, url=f"https://a/{name}")


def test_what_lacks_is_one_wheel_a_release_the_newest_patches_first() -> None:
    tag = "cp38-abi3-manylinux_2_28_x86_64"
    files = [
        published("0.26.0", tag),
        published("0.25.0", tag),
        published("0.25.1", tag),
        published("0.25.1", f"1-{tag}"),
        published("0.9.0", tag),
        published("0.25.1", tag.replace("x86_64", "aarch64")),
        published("2.11.0", "cp311-cp311-manylinux_2_28_x86_64", "torch"),
        published("2.11.0", "cp312-cp312-manylinux_2_28_x86_64", "torch"),
        published("2.12.0", "cp312-cp312-win_amd64", "torch"),
    ]
    known = ReadWheels().including(
        [ReadWheel(project="vllm", version="0.26.0", machine="x86_64", file="", record="")]
    )
    assert [file.filename for file in lacking(files, known, "x86_64")] == [
        f"vllm-0.25.1-1-{tag}.whl",
        "torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        f"vllm-0.25.0-{tag}.whl",
    ]
    assert [file.version for file in lacking(files, known, "aarch64")] == ["0.25.1"]
