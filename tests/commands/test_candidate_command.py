"""`matrix candidate`, against an index on this machine and wheels."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from candidate_command import LINUX, Command, candidate_command, metadata, refused
from matrix.catalog.index import Index

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from local_index import Served


def wheel(project: str, version: str, *requires: str, revision: str = "") -> dict[str, str]:
    members = {f"{project}-{version}.dist-info/METADATA": metadata(project, version, *requires)}
    if revision:
        members[f"{project}/version.py"] = f"git_version = '{revision}'\n"
    return members


def publish(
    served: Served, project: str, version: str, *requires: str, pythons: tuple[str, ...] = ("312",),
    revision: str = "", **facts: object,
) -> None:  # fmt: skip
    for python in pythons:
        content = served.wheel(wheel(project, version, *requires, revision=revision))
        served.add(
            project,
            f"{project}-{version}-cp{python}-cp{python}-{LINUX}.whl",
            content,
            pep658=metadata(project, version, *requires),
            **facts,
        )


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    return tmp_path / "candidates.toml"


@pytest.fixture
def run(tmp_path: Path, candidates: Path) -> Command:
    return candidate_command(tmp_path, candidates)


@pytest.fixture
def rc(served: Served) -> Served:
    """Make an index of release candidates: torch 2.16.0 for two Pythons, and what goes with it."""
    both = ("311", "312")
    needs = 'triton==3.8.0; platform_system == "Linux"'
    publish(served, "torch", "2.16.0+cu130", needs, pythons=both, revision="3f2a9c81d0e5c77")
    publish(served, "torch", "2.15.1+cu130", pythons=both)
    served.add("torch", "torch-2.16.0+cu130-cp312-cp312-win_amd64.whl", b"windows")
    publish(served, "torchvision", "0.30.0+cu130", "torch==2.16.0", pythons=both)
    publish(served, "torchvision", "0.31.0+cpu", "torch==2.16.0", pythons=both)
    publish(served, "torchvision", "0.29.9+cu130", "torch==2.15.1", pythons=both)
    publish(served, "triton", "3.8.0", pythons=both)
    publish(served, "triton", "3.9.0", pythons=both)
    return served


def test_a_version_on_an_index_is_written_with_its_companions(
    rc: Served, run: Command, candidates: Path
) -> None:
    done = run("add", "torch216rc1", "--index", rc.url, "--version", "2.16.0")
    assert done.returncode == 0, done.stderr
    assert "torch216rc1 added: torch 2.16.0+cu130 for Python 3.11 and 3.12" in done.stdout
    assert "no torchaudio for it; it goes without" in done.stdout
    assert re.search("run it with tox -e py31[12]-torch216rc1-vllm0", done.stdout)
    (row,) = tomllib.loads(candidates.read_text())["candidate"]
    assert row["version"] == "2.16.0+cu130"
    names = [file["name"] for file in row["files"] + row["companions"]]
    assert [name.split("-")[:3:2] for name in names] == [
        ["torch", "cp311"], ["torch", "cp312"], ["torchvision", "cp311"],
        ["torchvision", "cp312"], ["triton", "cp311"], ["triton", "cp312"],
    ]  # fmt: skip
    assert {name.split("-")[1] for name in names} == {"2.16.0+cu130", "0.30.0+cu130", "3.8.0"}
    for file in row["files"]:
        path = file["url"].partition("/files/")[2].replace("%2B", "+")
        assert file["sha256"] == hashlib.sha256(rc.contents[f"/files/{path}"]).hexdigest()
        assert file["uploaded"] == "2026-03-01T10:00:00Z"
    assert row["without"] == ["torchaudio"]
    assert row["cuda"] == "13.0"


def test_the_git_revision_is_read_where_parts_of_a_file_can_be(
    rc: Served, run: Command, candidates: Path
) -> None:
    rc.ranges = True
    assert run("add", "torch216rc1", "--index", rc.url).returncode == 0
    (row,) = tomllib.loads(candidates.read_text())["candidate"]
    assert row["revision"] == "3f2a9c81d0e5c77"


def test_an_index_is_read_once_and_metadata_served_alone_is_enough(
    rc: Served, run: Command
) -> None:
    assert run("add", "torch216rc1", "--index", rc.url).returncode == 0
    asked = [path for path, _ in rc.asked]
    assert asked.count("/simple/torch/") == 1
    whole = [path for path, ranged in rc.asked if path.endswith(".whl") and ranged is None]
    assert whole == []


def test_list_show_and_remove(rc: Served, run: Command, candidates: Path) -> None:
    empty = run("list")
    assert empty.returncode == 0 and "no candidate in candidates.toml" in empty.stderr
    assert run("add", "torch216rc1", "--index", rc.url).returncode == 0
    listed = run("list").stdout
    assert "torch216rc1" in listed and "2.16.0+cu130" in listed
    shown = run("show", "torch216rc1").stdout
    assert "identity" in shown and "torch-2.16.0+cu130-cp312" in shown
    (row,) = json.loads(run("list", "--json").stdout)
    assert row == json.loads(run("show", "torch216rc1", "--json").stdout)
    assert row["release"] == f"2.16.0+torch216rc1.{row['identity']}"
    assert row["pythons"] == ["3.11", "3.12"]
    assert run("remove", "torch216rc1").returncode == 0
    refused(run("show", "torch216rc1"), "candidate 'torch216rc1': is not known", candidates)
    refused(run("remove", "torch216rc1"), "candidate 'torch216rc1': is not known", candidates)


def test_credentials_are_neither_stored_nor_printed(
    rc: Served, run: Command, candidates: Path
) -> None:
    secret = rc.url.replace("http://", "http://me:hunter2@")
    done = run("add", "torch216rc1", "--index", secret)
    assert done.returncode == 0, done.stderr
    assert any(rc.users)
    for text in (done.stdout, done.stderr, candidates.read_text(), run("list").stdout):
        assert "hunter2" not in text
    rc.projects.clear()
    gone = run("add", "torchnightly", "--index", secret)
    refused(gone, "torch: is not on the index http://127.0.0.1", candidates)
    assert "hunter2" not in gone.stderr


def test_a_channel_is_overridden_by_a_variable(rc: Served, run: Command, candidates: Path) -> None:
    done = run("add", "torch216rc1", "--index", "test/cu130", MATRIX_CHANNEL_TORCH_TEST=rc.url)
    assert done.returncode == 0, done.stderr
    (row,) = tomllib.loads(candidates.read_text())["candidate"]
    assert row["source"]["channel"] == "test/cu130"
    assert row["source"]["index"] == rc.url.rstrip("/")


def test_the_same_build_changes_nothing_and_the_next_takes_its_place(
    rc: Served, run: Command, candidates: Path
) -> None:
    add = ("add", "torchnightly", "--index", rc.url)
    assert run(*add).returncode == 0
    before = candidates.read_bytes()
    again = run(*add)
    assert "exists already, with the same build" in again.stdout
    assert candidates.read_bytes() == before
    publish(rc, "torch", "2.17.0.dev20261128+cu130", pythons=("311", "312"))
    newer = run(*add)
    assert newer.returncode == 0 and "replaces the previous build" in newer.stdout
    rc.projects["torch"] = [r for r in rc.projects["torch"] if "dev" not in r["filename"]]
    refused(run(*add), "its index has an older build, from 2.17.0.dev20261128+cu130 to", candidates)
    assert run(*add, "--force").returncode == 0
    assert candidates.read_bytes() == before


def test_the_same_version_with_other_files_is_another_candidate(rc: Served, run: Command) -> None:
    add = ("add", "torch216rc1", "--index", rc.url)
    identity = json.loads((run(*add), run("show", "torch216rc1", "--json"))[1].stdout)["identity"]
    for row in rc.projects["torch"]:
        row["hashes"] = {"sha256": "d" * 64}
    assert run(*add).returncode == 0
    after = json.loads(run("show", "torch216rc1", "--json").stdout)
    assert after["identity"] != identity


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--version", "2.19.0"], "has no torch 2.19.0; its newest: 2.16.0+cu130, 2.15.1+cu130"),
        (["--version", "two"], "--version: 'two' is not a version"),
        (["--python", "3.14"], "has no wheel for Python 3.14, only for cp311 and cp312"),
        (["--python", "3.12", "--python", "3.14"], "has no wheel for Python 3.14, only for 3.12"),
        (["--pin", "2.14.0"], "--pin: goes with a vLLM"),
        (["--sha256", "a"], "--sha256: goes with --wheel and --sdist"),
        (["--companion", "numpy==2.0"], "'numpy' is not torchvision or torchaudio"),
    ],
)
def test_what_the_index_does_not_have_is_one_line(
    rc: Served, run: Command, candidates: Path, arguments: list[str], fault: str
) -> None:
    refused(run("add", "torch216rc1", "--index", rc.url, *arguments), fault, candidates)
    assert not candidates.exists()


def test_a_build_for_other_machines_is_refused(
    served: Served, run: Command, candidates: Path
) -> None:
    served.add("torch", "torch-2.16.0-cp312-cp312-win_amd64.whl", b"windows")
    done = run("add", "torch216rc1", "--index", served.url)
    refused(done, "torch 2.16.0 is for win_amd64 alone, not for this machine", candidates)


def test_two_builds_of_one_version_are_told_apart(
    rc: Served, run: Command, candidates: Path
) -> None:
    publish(rc, "torch", "2.16.0+cpu")
    done = run("add", "torch216rc1", "--index", rc.url, "--version", "2.16.0")
    refused(done, "as 2.16.0+cpu and 2.16.0+cu130; name one: --version", candidates)
    assert run("add", "torch216rc1", "--index", rc.url, "--version", "2.16.0+cpu").returncode == 0


def test_an_index_that_does_not_answer_is_one_line(
    run: Command, candidates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Index.__init__, "__kwdefaults__", {"tries": 1, "backoff": 0.0})
    done = run("add", "torch216rc1", "--index", "http://me:hunter2@127.0.0.1:9/simple/")
    refused(done, "torch: the index http://127.0.0.1:9/simple/: does not answer", candidates)
    assert "hunter2" not in done.stderr


def test_a_nightly_takes_the_torchvision_nearest_by_date(served: Served, run: Command) -> None:
    nightly = "2.17.0.dev20261128+cu130"
    publish(served, "torch", nightly, upload_time="2026-11-28T08:00:00.000000Z")
    for day in ("25", "27"):
        publish(
            served, "torchvision", f"0.31.0.dev202611{day}+cu130", f"torch==2.17.0.dev202611{day}",
            upload_time=f"2026-11-{day}T08:00:00.000000Z",
        )  # fmt: skip
    done = run("add", "torchnightly", "--index", served.url)
    assert done.returncode == 0, done.stderr
    assert "is for torch 2.17.0.dev20261127, the nearest by its date" in done.stdout


def test_without_a_torchvision_there_the_known_one_is_used(served: Served, run: Command) -> None:
    publish(served, "torch", "2.15.1rc1")
    done = run("add", "torch2151rc1", "--index", served.url)
    assert "no torchvision for it there; 0.29.2, which goes with torch 2.15.0" in done.stdout
    assert json.loads(run("show", "torch2151rc1", "--json").stdout)["pins"]["torchvision"]


def test_a_wheel_is_a_candidate_by_its_hash(
    served: Served, run: Command, candidates: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"torch-2.15.0+mine-cp312-cp312-{LINUX}.whl"
    path.write_bytes(served.wheel(wheel("torch", "2.15.0+mine", revision="ab" * 20)))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    done = run("add", "torchmine", "--wheel", str(path), "--sha256", digest)
    assert done.returncode == 0, done.stderr
    (row,) = tomllib.loads(candidates.read_text())["candidate"]
    assert row["files"][0]["url"] == path.as_uri()
    assert row["revision"] == "ab" * 20 and row["pins"]["torchvision"] == "0.29.2"
    other = run("add", "torchmine", "--wheel", str(path), "--sha256", "a" * 64)
    refused(other, f"its SHA-256 is {digest}, not aaaa", candidates)
    taken = run("add", "torchmine", "--index", served.url)
    publish(served, "torch", "2.15.1rc1")
    taken = run("add", "torchmine", "--index", served.url)
    refused(taken, "the name is taken, by the wheel", candidates)


def test_a_wheel_by_its_address_is_a_candidate(served: Served, run: Command) -> None:
    publish(served, "torch", "2.15.1rc1")
    path = served.projects["torch"][0]["url"]
    publish(served, "torchvision", "0.29.1")
    named = ["--companion", "torchvision==0.29.1"]
    own = {"UV_DEFAULT_INDEX": served.url}
    done = run("add", "torchmine", "--wheel", path, *named, **own)
    assert done.returncode == 0, done.stderr
    assert "could not be asked" not in done.stdout
    shown = json.loads(run("show", "torchmine", "--json").stdout)
    assert shown["files"][0]["url"] == path and shown["pins"]["torchvision"] == "0.29.1"


@pytest.mark.parametrize(
    ("companion", "fault"),
    [
        ("torchvision==9.9", "your own index has no torchvision 9.9; its newest: 0.30.0+cu130"),
        (
            "torchvision==0.30.0",
            "0.30.0 as 0.30.0+cpu and 0.30.0+cu130; name one: --companion torchvision==0.30.0+",
        ),
        ("torchaudio==2.11.0", "your own index has no wheel of torchaudio; name a wheel"),
        ("torchvision-0.29.1-cp312-cp312-win_amd64.whl", "0.29.1 is for win_amd64 alone, not for"),
        (f"torchvision-0.29.1-cp310-cp310-{LINUX}.whl", "has no wheel for Python 3.12, only for"),
    ],
)
def test_a_companion_that_cannot_be_installed_is_one_line(
    served: Served, run: Command, candidates: Path, tmp_path: Path, companion: str, fault: str
) -> None:
    publish(served, "torch", "2.15.1rc1")
    publish(served, "torchvision", "0.29.1")
    for build in ("cpu", "cu130"):
        publish(served, "torchvision", f"0.30.0+{build}")
    served.add("torchaudio", "torchaudio-2.11.0.tar.gz", b"")
    (tmp_path / companion).write_bytes(served.wheel(wheel("torchvision", "0.29.1")))
    path = served.projects["torch"][0]["url"]
    add = ("add", "torchmine", "--wheel", path, "--companion", companion)
    refused(run(*add, UV_DEFAULT_INDEX=served.url), fault, candidates)


def test_a_companion_that_the_own_index_does_not_list_is_one_line(
    served: Served, run: Command, candidates: Path
) -> None:
    publish(served, "torch", "2.15.1rc1")
    path = served.projects["torch"][0]["url"]
    add = ("add", "torchmine", "--wheel", path, "--companion", "torchaudio==2.11.0")
    fault = "your own index has no torchaudio; name a wheel"
    refused(run(*add, UV_DEFAULT_INDEX=served.url), fault, candidates)


def test_an_index_that_does_not_answer_leaves_a_companion_unknown(
    served: Served, run: Command
) -> None:
    publish(served, "torch", "2.15.1rc1")
    path = served.projects["torch"][0]["url"]
    add = ("add", "torchmine", "--wheel", path, "--companion", "torchvision==0.29.1")
    served.faults["/simple/torchvision/"] = [403] * 9
    done = run(*add, UV_DEFAULT_INDEX=served.url)
    assert done.returncode == 0, done.stderr
    assert "own index could not be asked whether it has torchvision 0.29.1" in done.stdout


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (f"vllm-0.33.0-cp38-abi3-{LINUX}.whl", "is a wheel of vllm, not of torch"),
        ("torch-2.15.0-cp312-cp312-win_amd64.whl", "is for win_amd64 alone"),
        (f"torch-2.15.0-cp39-cp39-{LINUX}.whl", "has no wheel for Python 3.10, 3.11"),
        ("torch.whl", "is not the name of a wheel"),
    ],
)
def test_a_wheel_that_does_not_fit_is_one_line(
    served: Served, run: Command, candidates: Path, tmp_path: Path, name: str, fault: str
) -> None:
    (tmp_path / name).write_bytes(served.wheel(wheel("torch", "2.15.0")))
    refused(run("add", "torchmine", "--wheel", name), fault, candidates)


def test_no_such_wheel_and_no_wheel_at_all_are_one_line(
    run: Command, candidates: Path, tmp_path: Path
) -> None:
    name = f"torch-2.15.0-cp312-cp312-{LINUX}.whl"
    refused(run("add", "torchmine", "--wheel", name), "does not exist", candidates)
    (tmp_path / name).write_bytes(b"half")
    refused(
        run("add", "torchmine", "--wheel", name), "is not an archive that can be read", candidates
    )


def test_a_vllm_on_an_index_has_the_pins_of_its_metadata(served: Served, run: Command) -> None:
    version = "0.34.0.dev5+g4152872ac"
    pins = ("torch==2.14.0", "torchvision==0.29.0", "torchaudio==2.11.0")
    content = served.wheel(wheel("vllm", version, *pins))
    served.add("vllm", f"vllm-{version}-cp38-abi3-{LINUX}.whl", content)
    done = run("add", "vllmmain", "--index", served.url, "--python", "3.13")
    assert done.returncode == 0, done.stderr
    assert "run it with tox -e py313-torch214-vllmmain" in done.stdout
    shown = json.loads(run("show", "vllmmain", "--json").stdout)
    assert shown["pins"]["torch"] == "2.14.0" and shown["revision"] == "4152872ac"


def test_a_vllm_whose_pin_is_unknown_needs_one(
    served: Served, run: Command, candidates: Path
) -> None:
    content = served.wheel(wheel("vllm", "0.33.0+empty"))
    served.add("vllm", "vllm-0.33.0+empty-py3-none-any.whl", content)
    add = ("add", "vllmempty", "--index", served.url)
    refused(run(*add), "the torch that it pins is not known; add it again with --pin", candidates)
    assert run(*add, "--pin", "2.14.0").returncode == 0


def test_a_pin_does_not_take_the_place_of_that_of_the_metadata(
    served: Served, run: Command, candidates: Path
) -> None:
    content = served.wheel(wheel("vllm", "0.34.0rc1", "torch==2.14.0"))
    served.add("vllm", f"vllm-0.34.0rc1-cp38-abi3-{LINUX}.whl", content)
    add = ("add", "vllm034rc1", "--index", served.url, "--pin")
    fault = "--pin 2.13.0: vllm 0.34.0rc1 pins torch 2.14.0; leave --pin out"
    refused(run(*add, "2.13.0"), fault, candidates)
    assert run(*add, "2.14.0").returncode == 0
