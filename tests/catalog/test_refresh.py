"""`matrix refresh`, against an index on this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from matrix import cli
from matrix._util.files import write_text as really_write
from matrix.catalog import refresh as module
from matrix.catalog.index import FetchError, Index
from matrix.catalog.refresh import Refreshed, refresh
from matrix.catalog.releases_file import load_releases
from matrix.catalog.requirements import read_requirements
from matrix.catalog.revision import VERSION_FILES

if TYPE_CHECKING:
    from local_index import Served

LINUX = "manylinux_2_28_x86_64"
SAYS = {"torch": "git_version = '{}'\n", "vllm": "__commit_id__ = commit_id = 'g{}'\n"}
ENVS = '"VLLM_MAIN_CUDA_VERSION": lambda: "13.0",\n'


@pytest.fixture
def index(served: Served) -> Iterator[Index]:
    client = Index(served.url, tries=2, backoff=0)
    yield client
    client.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "releases.json"
    found.write_text('{"torch": [], "vllm": []}')
    return found


def metadata(name: str, version: str, *required: str) -> str:
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: >=3.10"]
    return (
        "\n".join([*lines, *(f"Requires-Dist: {requirement}" for requirement in required)]) + "\n"
    )


def pinned(torch: str) -> list[str]:
    return [f"torch=={torch}", "torchvision==0.25.0", "torchaudio==2.10.0"]


def add_wheel(
    served: Served,
    name: str,
    version: str,
    *required: str,
    tag: str = "",
    revision: str = "",
    **more: Any,
) -> str:
    """Serve a wheel for Linux; returns its path."""
    text = metadata(name, version, *required)
    members = {f"{name}-{version}.dist-info/METADATA": text}
    if revision:
        members |= {VERSION_FILES[name]: SAYS[name].format(revision)}
    if more.pop("with_metadata", False):
        more["pep658"] = text
    if name == "vllm":
        members["vllm/envs.py"] = ENVS
    filename = f"{name}-{version}-{tag or f'cp312-cp312-{LINUX}'}.whl"
    return served.add(name, filename, served.wheel(members), **more)


def add_all(served: Served) -> dict[str, str]:
    """Give a small index: a torch, a vLLM as a wheel, one as both, and companions; their paths."""
    paths = {"torch": add_wheel(served, "torch", "2.10.0", "nvidia-cuda-runtime-cu12==12.8.90")}
    paths["vision"] = add_wheel(served, "torchvision", "0.25.0", "torch (==2.10.0)")
    paths["audio"] = add_wheel(served, "torchaudio", "2.10.0", "torch==2.10.0")
    paths["wheel"] = add_wheel(served, "vllm", "0.19.0", *pinned("2.10.0"))
    paths["both"] = add_wheel(served, "vllm", "0.19.1", *pinned("2.10.0"))
    members = {
        "PKG-INFO": metadata("vllm", "0.19.1", "torch==2.10.0+cpu"),
        "requirements/cuda.txt": "\n".join(pinned("2.10.0")),
        "vllm/envs.py": ENVS.replace("13.0", "12.9"),
    }
    content = served.sdist("vllm-0.19.1", members)
    paths["sdist"] = served.add("vllm", "vllm-0.19.1.tar.gz", content)
    served.add("vllm", "vllm-0.20.0rc1.tar.gz", b"never read")
    served.add("vllm", "vllm-0.8.5.tar.gz", b"never read")
    return paths


def known(path: Path, project: str) -> dict[str, dict[str, Any]]:
    return {row["version"]: row for row in json.loads(path.read_text())[project]}


def files_asked(served: Served) -> list[str]:
    return [address for address, _ in served.asked if address.startswith("/files/")]


def kinds(done: Refreshed) -> list[tuple[str, str, str]]:
    return [(change.kind, change.project, change.version) for change in done.changes]


@pytest.mark.parametrize("as_html", [False, True])
@pytest.mark.parametrize("ranges", [False, True])
def test_an_index_is_read_once(
    served: Served, index: Index, path: Path, as_html: bool, ranges: bool
) -> None:
    served.as_html, served.ranges = as_html, ranges
    add_all(served)
    done = refresh(path, index)
    assert (done.failures, done.gone, done.read) == ((), (), 5)
    torch = known(path, "torch")["2.10.0"]
    assert (torch["torchvision"], torch["torchaudio"]) == ("0.25.0", "2.10.0")
    assert (torch["cuda"], torch["source"], torch["python"]) == ("12.8", "wheel", ">=3.10")
    assert torch.get("uploaded") == (None if as_html else "2026-03-01")
    vllm = known(path, "vllm")
    assert list(vllm) == ["0.19.0", "0.19.1"]
    assert (vllm["0.19.0"]["source"], vllm["0.19.0"]["cuda"]) == ("wheel", "13.0")
    # A source distribution is smaller than a wheel, but parts of a wheel are smaller still.
    assert vllm["0.19.1"]["source"] == ("wheel" if ranges else "sdist")
    assert vllm["0.19.1"]["cuda"] == ("13.0" if ranges else "12.9")
    assert all(row["torch"] == "2.10.0" for row in vllm.values())

    text, stamp = path.read_text(), path.stat().st_mtime_ns
    served.asked.clear()
    assert refresh(path, index) == Refreshed()
    assert sorted(requested for requested, _ in served.asked) == [
        f"/simple/{name}/" for name in ("torch", "torchaudio", "torchvision", "vllm")
    ]
    assert (path.read_text(), path.stat().st_mtime_ns) == (text, stamp)


def test_what_a_wheel_of_vllm_requires_is_kept(served: Served, index: Index, path: Path) -> None:
    add_all(served)
    lines = [*pinned("2.10.0"), 'ray>=2 ; extra == "ray"', 'numba ; platform_machine != "s390x"']
    add_wheel(served, "vllm", "0.20.0", *lines)
    refresh(path, index)
    beside = path.with_name("requirements.json")
    wanted = (*pinned("2.10.0"), 'numba; platform_machine != "s390x"')
    # That of a source distribution may be of the machine that made it.
    found = {"0.19.0": tuple(pinned("2.10.0")), "0.20.0": wanted}
    assert read_requirements(beside) == found

    beside.unlink()
    rows, asked = path.read_text(), len(served.asked)
    assert refresh(path, index).read == 2
    assert (read_requirements(beside), path.read_text()) == (found, rows)
    assert not any(name.endswith(".tar.gz") for name, _ in served.asked[asked:])
    assert refresh(path, index).read == 0


def test_metadata_beside_a_file_is_preferred(served: Served, index: Index, path: Path) -> None:
    paths = add_all(served)
    for row in served.projects["vllm"] + served.projects["torch"]:
        if row["filename"].endswith(".whl"):
            name, version = row["filename"].split("-")[:2]
            required = pinned("2.10.0") if name == "vllm" else ["cuda-toolkit==13.0.2"]
            served.contents[f"/files/{row['filename']}.metadata"] = metadata(
                name, version, *required
            ).encode()
            row["core-metadata"] = True
    assert refresh(path, index).failures == ()
    assert known(path, "torch")["2.10.0"]["cuda"] == "13.0"
    vllm = known(path, "vllm")
    assert {row["source"] for row in vllm.values()} == {"metadata"}
    # CUDA is in the sources only; where no source is to be had for little, it is left out.
    assert (vllm["0.19.1"]["cuda"], vllm["0.19.0"].get("cuda")) == ("12.9", None)
    whole = [requested for requested, part in served.asked if part is None]
    assert paths["torch"] not in whole and paths["wheel"] not in whole


@pytest.mark.parametrize("with_metadata", [False, True])
@pytest.mark.parametrize("ranges", [False, True])
def test_the_git_revision_is_read_where_no_wheel_is_fetched_for_it_alone(
    served: Served, index: Index, path: Path, ranges: bool, with_metadata: bool
) -> None:
    served.ranges = ranges
    torch = add_wheel(served, "torch", "2.10.0", revision="a1b2c3d4e5", with_metadata=with_metadata)
    add_wheel(served, "torchvision", "0.25.0", "torch==2.10.0")
    add_wheel(served, "torchaudio", "2.10.0", "torch==2.10.0")
    needs = pinned("2.10.0")
    add_wheel(served, "vllm", "0.19.0", *needs, revision="f6e5d4c", with_metadata=with_metadata)
    assert refresh(path, index).failures == ()
    is_known = ranges or not with_metadata
    assert known(path, "torch")["2.10.0"].get("revision") == ("a1b2c3d4e5" if is_known else None)
    assert known(path, "vllm")["0.19.0"].get("revision") == ("f6e5d4c" if is_known else None)
    assert ((torch, None) in served.asked) == (not ranges and not with_metadata)


def test_the_git_revision_of_a_source_distribution_is_read(
    served: Served, index: Index, path: Path
) -> None:
    members = {
        "PKG-INFO": metadata("vllm", "0.19.0", *pinned("2.10.0")),
        "vllm/_version.py": SAYS["vllm"].format("f6e5d4c"),
    }
    served.add("vllm", "vllm-0.19.0.tar.gz", served.sdist("vllm-0.19.0", members))
    refresh(path, index)
    assert known(path, "vllm")["0.19.0"]["revision"] == "f6e5d4c"


def test_other_files_of_a_release_have_a_revision_of_their_own(
    served: Served, index: Index, path: Path
) -> None:
    served.ranges = True
    add_wheel(served, "torch", "2.10.0", revision="a1b2c3d4e5")
    refresh(path, index)
    add_wheel(served, "torch", "2.10.0", tag=f"1-cp312-cp312-{LINUX}", revision="0f0f0f0f")
    (change,) = refresh(path, index).changes
    assert "revision 0f0f0f0f (was a1b2c3d4e5)" in change.what
    add_wheel(served, "torch", "2.10.0", tag=f"2-cp312-cp312-{LINUX}")
    refresh(path, index)
    assert "revision" not in known(path, "torch")["2.10.0"]


def test_a_new_release_appears_and_only_it_is_read(
    served: Served, index: Index, path: Path
) -> None:
    add_all(served)
    refresh(path, index)
    before = known(path, "vllm")
    served.asked.clear()
    new = add_wheel(served, "vllm", "0.20.0", *pinned("2.11.0"))
    torch = add_wheel(served, "torch", "2.11.0", "cuda-toolkit[x]==13.0.2")
    for row in served.projects["vllm"]:
        if row["filename"].startswith("vllm-0.19.1"):
            row["yanked"] = "breaks on Fridays"
    done = refresh(path, index)
    assert set(files_asked(served)) == {new, torch}
    assert kinds(done) == [
        ("new", "torch", "2.11.0"),
        ("yanked", "vllm", "0.19.1"),
        ("new", "vllm", "0.20.0"),
    ]
    after = known(path, "vllm")
    assert after.pop("0.20.0")["torch"] == "2.11.0"
    assert after.pop("0.19.1") == {**before.pop("0.19.1"), "yanked": "breaks on Fridays"}
    assert after == before


def test_what_fails_is_named_and_the_rest_goes_on(served: Served, index: Index, path: Path) -> None:
    paths = add_all(served)
    served.contents[paths["torch"]] += b"more"
    served.faults[paths["sdist"]] = ["half"] * 9
    other = add_wheel(served, "vllm", "0.19.2", *pinned("2.10.0"))
    served.contents[other] = bytes(len(served.contents[other]))
    add_wheel(served, "vllm", "0.19.3", "torch @@ 2")
    add_wheel(served, "vllm", "0.19.4", requires_python="new")
    served.faults["/simple/torchaudio/"] = [429] * 9
    arm = "cp38-abi3-manylinux_2_28_aarch64"
    add_wheel(served, "vllm", "0.19.5", tag=arm)
    done = refresh(path, index)
    said = sorted(failure.partition(": ")[0] for failure in done.failures)
    assert said == [
        "torch-2.10.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        "torchaudio",
        "vllm 0.19.3",
        "vllm 0.19.4",
        "vllm-0.19.1.tar.gz",
        "vllm-0.19.2-cp312-cp312-manylinux_2_28_x86_64.whl",
    ]
    assert all("\n" not in failure for failure in done.failures)
    assert set(known(path, "vllm")) == {"0.19.0", "0.19.5"}
    assert known(path, "vllm")["0.19.5"]["note"].startswith("no wheel for Linux")
    # A vLLM pins the torch that failed, so it is there, and is read the next time.
    assert "source" not in known(path, "torch")["2.10.0"]
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, "requirements.json"}
    served.contents[paths["torch"]] = served.contents[paths["torch"]][:-4]
    served.faults.clear()
    again = refresh(path, index)
    assert {version for _, _, version in kinds(again)} == {"2.10.0", "0.19.1"}
    assert len(again.failures) == 3


def test_a_known_release_stays_where_its_new_files_fail_or_are_none(
    served: Served, index: Index, path: Path
) -> None:
    add_all(served)
    refresh(path, index)
    before = known(path, "vllm")
    rows = served.projects["vllm"]
    newer = add_wheel(served, "vllm", "0.19.0", tag=f"1-cp312-cp312-{LINUX}")
    served.contents[newer] = b""
    served.projects["vllm"] = [row for row in rows if "0.19.1" not in row["filename"]]
    done = refresh(path, index)
    assert len(done.failures) == 1 and done.gone == (("vllm", "0.19.1"),)
    assert known(path, "vllm") == before
    served.projects["vllm"] = []
    served.add("vllm", "vllm-0.19.0-cp38-abi3-win_amd64.whl", b"")
    assert refresh(path, index).failures == ()
    row = known(path, "vllm")["0.19.0"]
    assert row == {**before["0.19.0"], "wheels": {"win_amd64": "cp38-abi3"}}


def test_check_writes_and_reads_nothing(served: Served, index: Index, path: Path) -> None:
    add_all(served)
    before = path.read_text()
    done = refresh(path, index, check=True)
    assert path.read_text() == before and files_asked(served) == []
    assert set(kinds(done)) == {
        ("new", "torch", "2.10.0"),
        ("new", "torchvision", "0.25.0"),
        ("new", "torchaudio", "2.10.0"),
        ("new", "vllm", "0.19.0"),
        ("new", "vllm", "0.19.1"),
    }


def test_what_was_read_stays_when_it_is_ended(
    served: Served, index: Index, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_all(served)
    writes = iter("ab")

    def write_text(written: Path, text: str) -> None:
        if written == path and next(writes, None) is None:
            raise KeyboardInterrupt
        really_write(written, text)

    monkeypatch.setattr(module, "write_text", write_text)
    with pytest.raises(KeyboardInterrupt):
        refresh(path, index)
    names = ("torch", "vllm", "torchvision", "torchaudio")
    assert sum("files" in row for name in names for row in known(path, name).values()) == 2
    assert {entry.name for entry in path.parent.iterdir()} <= {path.name, "requirements.json"}
    with pytest.raises(FetchError, match="stopped"):
        index.files("torch")
    monkeypatch.undo()
    fresh = Index(served.url)
    assert refresh(path, fresh).read == 3
    fresh.close()


def matrix(path: Path, served: Served, *more: str) -> int:
    return cli.main(["refresh", "--releases", str(path), "--index", served.url, *more])


def test_the_command(served: Served, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = add_all(served)
    assert matrix(path, served, "--check") == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"{path}: 5 new (nothing written)"
    assert matrix(path, served) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(
        r"^new  vllm         0\.19\.1  torch 2\.10\.0, torchvision 0", out, re.MULTILINE
    )
    assert out.splitlines()[-1] == f"{path}: 5 new; metadata read of 5"
    assert matrix(path, served, "--check") == 0
    assert matrix(path, served) == 0
    assert capsys.readouterr().out == (
        f"{path}: nothing new (nothing written)\n{path}: nothing new; metadata read of 0\n"
    )
    served.contents[paths["wheel"]] = bytes(len(served.contents[paths["wheel"]]))
    path.write_text('{"torch": [], "vllm": []}')
    assert matrix(path, served) == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == f"{path}: 4 new; metadata read of 4; 1 failed"
    assert re.fullmatch(r"matrix: vllm-0\.19\.0-\S+: .+\n", err)


def test_the_command_refuses_a_bad_file_and_a_bad_index(
    served: Served, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_text('{"torch": [{"version": "new"}], "vllm": []}')
    assert matrix(path, served) == 2
    assert "'new' is not a version" in capsys.readouterr().err
    assert cli.main(["refresh", "--index", "here"]) == 2
    assert capsys.readouterr().err == (
        "matrix: 'here' is not an http(s) address; write it as https://...\n"
    )
    path.write_text('{"torch": [], "vllm": []}')
    assert matrix(path, served) == 2
    assert capsys.readouterr().err.count("is not on the index") == 4
    assert path.read_text() == '{"torch": [], "vllm": []}'


def test_what_is_written_loads(served: Served, index: Index, path: Path) -> None:
    add_all(served)
    add_wheel(served, "vllm", "0.30.0", *pinned("2.20.0"))
    add_wheel(served, "vllm", "0.31.0", "torch>=2")
    add_wheel(served, "vllm", "0.32.0", "torch==2.10.0")
    assert refresh(path, index).failures == ()
    cells = path.parent / "cells.json"
    cells.write_text('{"pythons": ["3.11"], "vllm": ["0.32"]}')
    releases = load_releases(path, cells)
    assert [release.version for release in releases.torch] == ["2.10.0", "2.20.0"]
    assert releases.torch[1].note == "the index does not list it; vLLM 0.30.0 pins it"
    assert [(release.version, release.note) for release in releases.unread] == [
        ("0.31.0", "its wheel asks for torch>=2, which is not a pin")
    ]
    (cell,) = releases.cells()
    assert releases.companions(cell) == {"torch": "2.10.0"}
    assert "files" not in vars(releases.vllm[0])
