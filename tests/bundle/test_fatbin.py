"""matrix.bundle.fatbin on libraries made here, in the layout that CUDA's own have."""

import mmap
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.bundle.fatbin import Pruned, keep_only
from matrix.checks.gpu_code.images import GpuArchError, parse_arch

PTX, CUBIN, COMPRESSED = 1, 2, 16
FLAGS = {"": 0, "a": 1 << 20, "f": 1 << 21}
Image = tuple[int, int, bytes]


def image(kind: int, arch: int, code: bytes, *, header: int, only: str) -> bytes:
    start = struct.pack("<HHIQ12xI8x", kind, 0x101, header, len(code), arch)
    return (start + struct.pack("<Q", 0x11 | FLAGS[only])).ljust(header, b"\x11") + code


def fatbin(*images: Image, header: int = 64, only: str = "") -> bytes:
    """Return a fatbin; `only` has a letter for each image that is not for every newer chip too."""
    body = b"".join(
        image(kind, arch, code, header=header, only=letter.strip())
        for (kind, arch, code), letter in zip(images, only.ljust(len(images)), strict=True)
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def elf(sections: dict[str, bytes], *, nobits: str = "") -> bytes:
    """Return an ELF file that is nothing but its sections."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".shstrtab"))
    content = b"".join(sections.values()) + names
    rows = [struct.pack("<IIQQQQIIQQ", *[0] * 10)]
    at = 64
    for name, data in {**sections, ".shstrtab": names}.items():
        kind = 8 if name == nobits else 1
        where = names.index(name.encode() + b"\0")
        rows.append(struct.pack("<IIQQQQIIQQ", where, kind, 0, 0, at, len(data), 0, 0, 1, 0))
        at += len(data)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, at, 0, 64, 0, 0, 64, len(rows), len(rows) - 1
    )
    return head + content + b"".join(rows)


def code(arch: int, size: int = 24) -> bytes:
    return bytes([arch]) * size


def pruned(*images: Image, arch: int = 90, only: str = "") -> tuple[set[bytes], Pruned]:
    """Which codes are still there, after a check that nothing but code became zeros."""
    library = bytearray(elf({".text": b"host", ".nv_fatbin": fatbin(*images, only=only)}))
    before = bytes(library)
    found = keep_only(library, arch)
    assert len(library) == len(before)
    kept = {code for _, _, code in images if library.find(code) >= 0}
    expected = before
    for _, _, code in images:
        if code not in kept:
            expected = expected.replace(code, bytes(len(code)))
    assert library == expected
    return kept, found


def test_only_the_code_of_the_chip_stays() -> None:
    kept, found = pruned(
        (CUBIN, 80, code(80)),
        (CUBIN, 90, code(90)),
        (COMPRESSED, 100, code(100)),
        (PTX, 120, code(120)),
    )
    assert kept == {code(90)}
    assert found == Pruned(kept=24, dropped=72, fatbins=1, other=0, none=0)


def test_all_images_of_the_chip_stay_and_its_ptx_goes() -> None:
    kept, _ = pruned((CUBIN, 90, code(1)), (COMPRESSED, 90, code(2)), (PTX, 90, code(3)))
    assert kept == {code(1), code(2)}


@pytest.mark.parametrize(
    ("images", "arch", "stays", "other", "none"),
    [
        # Machine code runs on chips of its own major architecture that are not older.
        ([(CUBIN, 80, code(80)), (CUBIN, 86, code(86)), (PTX, 80, code(1))], 89, code(86), 1, 0),
        ([(CUBIN, 80, code(80)), (PTX, 70, code(70)), (PTX, 80, code(1))], 90, code(1), 1, 0),
        (
            [(CUBIN, 103, code(103)), (CUBIN, 100, code(100)), (PTX, 90, code(90))],
            101,
            code(100),
            1,
            0,
        ),
        ([(CUBIN, 80, code(80)), (PTX, 100, code(100))], 90, b"", 0, 1),
        ([(COMPRESSED, 90, code(90))], 90, code(90), 0, 0),
    ],
)
def test_what_stays_where_the_chip_has_no_image(
    images: list[Image], arch: int, stays: bytes, other: int, none: int
) -> None:
    kept, found = pruned(*images, arch=arch)
    assert kept == ({stays} if stays else set())
    assert (found.other, found.none) == (other, none)


@pytest.mark.parametrize(
    ("images", "only", "arch", "stays"),
    [
        # sm_100a runs on that chip alone, sm_100f on those of its family.
        ([(CUBIN, 100, code(100)), (PTX, 90, code(90))], "a ", 103, code(90)),
        ([(CUBIN, 100, code(100)), (PTX, 90, code(90))], "f ", 103, code(100)),
        ([(CUBIN, 100, code(100)), (PTX, 90, code(90))], "a ", 100, code(100)),
        ([(CUBIN, 90, code(90))], "a", 100, b""),
        ([(CUBIN, 80, code(80)), (CUBIN, 86, code(86))], " a", 89, code(80)),
    ],
)
def test_code_for_one_chip_alone_does_not_stay_for_another(
    images: list[Image], only: str, arch: int, stays: bytes
) -> None:
    kept, found = pruned(*images, arch=arch, only=only)
    assert kept == ({stays} if stays else set())
    assert bool(found.none) is not bool(stays)


def test_every_fatbin_of_every_section_is_read() -> None:
    one = fatbin((CUBIN, 80, code(80)), (CUBIN, 90, code(90)))
    two = fatbin((CUBIN, 70, code(70)), (CUBIN, 90, code(91)), header=80)
    library = bytearray(elf({".nv_fatbin": one + bytes(12) + two, "__nv_relfatbin": one}))
    assert keep_only(library, 90) == Pruned(kept=72, dropped=72, fatbins=3)
    assert library.count(code(90)) == 2
    assert code(80) not in library
    assert code(70) not in library


def test_a_second_time_changes_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "a.so"
    path.write_bytes(elf({".nv_fatbin": fatbin((CUBIN, 80, code(80)), (CUBIN, 90, code(90)))}))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as library:
        first = keep_only(library, 90)
        once = library[:]
        assert keep_only(library, 90) == first
        assert library[:] == once
    assert path.read_bytes() == once


def test_code_that_is_much_larger_than_a_block_goes_whole() -> None:
    large = code(80, (2 << 20) + 5)
    library = bytearray(elf({".nv_fatbin": fatbin((CUBIN, 80, large), (CUBIN, 90, code(90)))}))
    assert keep_only(library, 90).dropped == len(large)
    assert code(80) not in library


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"#!/bin/sh\n",
        b"\x7fELF\x01\x01" + bytes(100),
        elf({".text": fatbin((CUBIN, 80, code(80)))}),
        elf({".nv_fatbin": b"PTX? no magic here" * 9}),
        elf({".nv_fatbin": fatbin((CUBIN, 80, code(80)))}, nobits=".nv_fatbin"),
        elf({".nv_fatbin": fatbin((CUBIN, 80, code(80)))})[:150],
        # A size that leaves the section, and a header that is none.
        elf({".nv_fatbin": fatbin((CUBIN, 80, code(80)))[:-30]}),
        elf({".nv_fatbin": fatbin((CUBIN, 80, code(80)), header=4104)}),
    ],
)
def test_what_holds_no_gpu_code_stays_as_it_is(content: bytes) -> None:
    library = bytearray(content)
    assert keep_only(library, 90).dropped == 0
    assert library == content


@given(st.binary(max_size=400), st.integers(0, 400), st.integers(0, 255))
def test_damaged_libraries_are_read_without_a_fault(tail: bytes, at: int, byte: int) -> None:
    library = bytearray(
        elf({".nv_fatbin": fatbin((CUBIN, 80, code(80)), (PTX, 90, code(90)))}) + tail
    )
    library[at % len(library)] = byte
    size = len(library)
    keep_only(library, 90)
    assert len(library) == size


@given(
    st.lists(
        st.tuples(
            st.sampled_from([PTX, CUBIN, COMPRESSED]), st.sampled_from([75, 80, 86, 90, 100, 120])
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([80, 86, 89, 90, 100, 103]),
)
def test_a_chip_that_had_code_still_has_some(kinds: list[tuple[int, int]], arch: int) -> None:
    images = [
        (kind, number, bytes([200 - index]) * 16) for index, (kind, number) in enumerate(kinds)
    ]
    kept, found = pruned(*images, arch=arch)
    usable = any(
        number <= arch and (kind == PTX or number // 10 == arch // 10) for kind, number in kinds
    )
    assert bool(kept) is usable
    assert found.kept + found.dropped == 16 * len(images)
    assert bool(found.none) is not usable


@pytest.mark.parametrize(("text", "arch"), [("sm_90", 90), ("sm_90a", 90), ("sm_120", 120)])
def test_an_architecture_is_read(text: str, arch: int) -> None:
    assert parse_arch(text) == arch


@pytest.mark.parametrize("text", ["", "90", "sm_", "sm90", "sm_9.0", "sm_90x", "compute_90"])
def test_what_is_no_architecture_is_refused(text: str) -> None:
    with pytest.raises(GpuArchError, match="write it as sm_90"):
        parse_arch(text)
