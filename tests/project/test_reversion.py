"""A wheel is copied under another version: the rest stays, and the copy installs."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.tags import parse_tag, sys_tags

from fake_wheels import GIT_VERSION, write_torch, write_wheel
from local_index import Served
from matrix.checks.resolution.resolver import uv
from planted import CACHES_OFF, DEFECTS, Defect, main, plant
from reversion import ReversionError, reversion

NEW_GIT = "f" * 40


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        assert len(set(archive.namelist())) == len(archive.namelist())
        return {name: archive.read(name) for name in archive.namelist()}


def hold_record(wheel: Path) -> None:
    """RECORD has every member, with its hash and size."""
    found = contents(wheel)
    (record,) = (name for name in found if name.endswith(".dist-info/RECORD"))
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(found[record].decode()))}
    assert rows.keys() == found.keys()
    assert rows.pop(record) == ["", ""]
    for name, (digest, size) in rows.items():
        raw = hashlib.sha256(found[name]).digest()
        assert digest == "sha256=" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        assert int(size) == len(found[name])


def test_a_torch_under_another_version(tmp_path: Path) -> None:
    wheel = write_torch(tmp_path)
    before = contents(wheel)
    out = tmp_path / "out"
    out.mkdir()
    made = reversion(wheel, out, "2.11.1rc1", git_version=NEW_GIT)
    assert made == out / wheel.name.replace("2.11.0", "2.11.1rc1")
    after = contents(made)
    assert after.pop("torch/version.py").decode() == (
        before.pop("torch/version.py")
        .decode()
        .replace("2.11.0+cu130", "2.11.1rc1+cu130")
        .replace(GIT_VERSION, NEW_GIT)
    )
    old, new = "torch-2.11.0.dist-info/", "torch-2.11.1rc1.dist-info/"
    text = before.pop(f"{old}METADATA").decode()
    assert after.pop(f"{new}METADATA").decode() == text.replace(
        "\nVersion: 2.11.0\n", "\nVersion: 2.11.1rc1\n", 1
    )
    del after[f"{new}RECORD"], before[f"{old}RECORD"]
    assert after == {name.replace(old, new): content for name, content in before.items()}
    hold_record(made)
    assert contents(wheel).keys() >= before.keys()  # the wheel itself stays


@pytest.mark.parametrize(
    ("version", "inner"),
    [
        ("2.12.0.dev20261128+cpu", "2.12.0.dev20261128+cpu"),
        ("2.12.0", "2.12.0+cu130"),
        (None, "2.11.0+cu130"),
    ],
)
def test_a_local_part(tmp_path: Path, version: str | None, inner: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    made = reversion(write_torch(tmp_path), out, version, git_version=NEW_GIT)
    assert f"__version__ = '{inner}'" in contents(made)["torch/version.py"].decode()
    assert made.name.split("-")[1] == (version or "2.11.0")
    hold_record(made)


def test_a_copy_installs(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    made = plant(write_torch(tmp_path), out, [CACHES_OFF], "2.11.1rc1")
    subprocess.run([sys.executable, "-m", "zipfile", "-t", str(made)], check=True)
    target = tmp_path / "installed"
    options = [
        "--offline",
        "--no-deps",
        "--python-platform",
        "x86_64-manylinux_2_35",
        "--no-config",
    ]
    where = ["--target", str(target), "--cache-dir", str(tmp_path / "cache")]
    command = [*uv(), "pip", "install", *options, *where, "--python", sys.executable, str(made)]
    subprocess.run(command, check=True, capture_output=True)
    assert "default=False" in (target / "torch/_inductor/config.py").read_text()
    assert (target / "torch-2.11.1rc1.dist-info").is_dir()


Members = Mapping[str, tuple[bytes, int, bool]]


def write_members(archive: zipfile.ZipFile, every: Mapping[str, bytes], how: Members) -> None:
    for name, content in every.items():
        info = zipfile.ZipInfo(name)
        info.compress_type, zip64 = how[name][1:] if name in how else (8, False)
        with archive.open(info, "w", force_zip64=zip64) as member:
            member.write(content)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.dictionaries(
        st.from_regex(r"[a-zé]{1,8}/[a-z_]{1,8}\.(py|so)", fullmatch=True),
        st.tuples(st.binary(max_size=3000), st.sampled_from([0, 8]), st.booleans()),
        max_size=8,
    ),
    stream=st.booleans(),
)
def test_every_other_member_is_as_it_was(tmp_path: Path, data: Members, stream: bool) -> None:
    """What is not named keeps its bytes and how it is compressed, however the wheel was written."""
    wheel = write_wheel(
        tmp_path, "any", "1.0", {name: value[0] for name, value in data.items()} or None
    )
    with zipfile.ZipFile(wheel) as archive:
        every = {name: archive.read(name) for name in archive.namelist()}
    with wheel.open("wb") as file:
        opened = zipfile.ZipFile(_Stream(file), "w") if stream else zipfile.ZipFile(file, "w")
        with opened as archive:
            write_members(archive, every, data)
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    made = reversion(wheel, out, "1.0.post1")
    with zipfile.ZipFile(made) as after, zipfile.ZipFile(wheel) as before:
        for name in data:
            assert after.read(name) == before.read(name)
            assert after.getinfo(name).compress_type == before.getinfo(name).compress_type
            assert after.getinfo(name).compress_size == before.getinfo(name).compress_size
    hold_record(made)


class _Stream:
    """A file that cannot go back: zipfile then writes the sizes behind the data."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file = file

    def write(self, data: bytes, /) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def test_members_above_two_gib_get_the_header_of_zip64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reversion._ZIP64_FROM", 100)
    # Before 3.11.4, zipfile moves only sizes above its own limit to the field of ZIP64.
    monkeypatch.setattr("zipfile.ZIP64_LIMIT", 100)
    wheel = write_wheel(tmp_path, "any", "1.0", {"any/large.so": b"x" * 5000, "any/small.py": b""})
    out = tmp_path / "out"
    out.mkdir()
    made = reversion(wheel, out, "1.1")
    found = contents(made)
    assert found["any/large.so"] == b"x" * 5000
    raw = made.read_bytes()
    header = raw.index(b"PK\x03\x04")
    assert raw[header + 18 : header + 26] == b"\xff" * 8  # the sizes are in the field of ZIP64
    again = tmp_path / "again"
    again.mkdir()
    assert contents(reversion(made, again, "1.2"))["any/large.so"] == b"x" * 5000


def test_what_cannot_be_copied(tmp_path: Path) -> None:
    wheel = write_torch(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ReversionError, match="the copy would take the place of the wheel"):
        reversion(wheel, tmp_path, "2.11.0")
    with pytest.raises(ReversionError, match=r"has no member torch/nowhere\.py"):
        reversion(wheel, out, "2.12.0", replace={"torch/nowhere.py": b""})
    plain = write_wheel(tmp_path, "any", "1.0")
    with pytest.raises(ReversionError, match=r"has no any/version\.py, so no git_version"):
        reversion(plain, out, "1.1", git_version=NEW_GIT)
    with zipfile.ZipFile(tmp_path / "none-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("none.py", "")
    with pytest.raises(ReversionError, match=r"has 0 folders \*\.dist-info"):
        reversion(tmp_path / "none-1.0-py3-none-any.whl", out, "1.1")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS)
def test_a_defect_is_planted_or_refused(tmp_path: Path, defect: Defect) -> None:
    wheel = write_torch(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    before, made = contents(wheel), plant(wheel, out, [defect], "2.11.1rc1")
    hold_record(made)
    after = contents(made)
    changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    assert changed == {edit.member for edit in defect.edits} | {"torch/version.py"}
    made.unlink()
    for edit in defect.edits:
        other = reversion(wheel, out, "2.10.0", replace={edit.member: b"# another torch\n"})
        with pytest.raises(ReversionError, match=r"has 0 of the texts to change, not 1$"):
            plant(other, tmp_path, [defect], "2.10.1")


def test_several_defects_change_one_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    made = plant(write_torch(tmp_path), out, list(DEFECTS.values()), "2.11.1rc1")
    config = contents(made)["torch/_inductor/config.py"].decode()
    assert "default=False" in config and "max_fusion_size = 1\n" in config


def test_the_script_fetches_and_plants(
    tmp_path: Path,
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", served.url)
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    for tag in (f"{python}-{python}-manylinux_2_17_x86_64", "cp39-cp39-manylinux_2_17_x86_64"):
        served.add_wheel(write_torch(tmp_path, tag=tag))
    monkeypatch.setattr(
        "planted.sys_tags",
        lambda: [*sys_tags(), *parse_tag(f"{python}-{python}-manylinux_2_17_x86_64")],
    )
    out = tmp_path / "out"
    arguments = ["--as", "2.11.1rc1", "--git", NEW_GIT, "--defect", "codegen", "--defect", "fx-key"]
    main(["2.11.0", str(out), *arguments])
    made = Path(capsys.readouterr().out.strip())
    assert made.name == f"torch-2.11.1rc1-{python}-{python}-manylinux_2_17_x86_64.whl"
    assert NEW_GIT in contents(made)["torch/version.py"].decode()
    assert b"AssertionError" in contents(made)["torch/_inductor/scheduler.py"]
    main([str(made), str(tmp_path / "again"), "--as", "2.11.2"])
    with pytest.raises(SystemExit, match=r"planted: torch 2\.9\.9: the index has no wheel"):
        main(["2.9.9", str(out)])
