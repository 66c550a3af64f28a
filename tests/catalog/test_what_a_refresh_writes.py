"""What a refresh makes of the files of an index: rows, changes and notes."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.catalog.package_metadata import MetadataError, ReleaseMetadata
from matrix.catalog.published_file import PublishedFile
from matrix.catalog.refresh_merge import (
    ReleaseRows,
    changes,
    complete,
    followed,
    gone,
    linux_wheel,
    merge,
    source_distribution,
    to_json,
    to_read,
    unreadable,
)
from matrix.catalog.releases_file import RELEASES_FILE, read_rows

LINUX = "manylinux_2_28_x86_64"
READ = ReleaseMetadata(
    facts={"torch": "2.10.0", "torchvision": "0.25.0", "source": "wheel", "cuda": "12.9"}
)


def file(name: str, project: str = "vllm", **facts: Any) -> PublishedFile:
    """Return a file; its version is what its name says."""
    said = {"sha256": "0" * 64, "requires_python": "<3.14,>=3.10", "size": 10, **facts}
    version = name.split("-")[1].removesuffix(".tar.gz")
    return PublishedFile(
        project=project, version=version, filename=name, url=f"http://a/{name}", **said
    )


def torch(version: str, **facts: Any) -> dict[str, Any]:
    return {"version": version, "source": "wheel", **facts}


def rows(**projects: list[dict[str, Any]]) -> ReleaseRows:
    return {
        project: {str(row["version"]): row for row in releases}
        for project, releases in projects.items()
    }


def test_final_releases_from_the_oldest_on_are_listed_oldest_first() -> None:
    names = ["0.10.0", "0.9.0", "0.9.0.1", "0.8.5", "0.11.0rc1", "0.11.0+cu126", "0.10.0.post1"]
    found = followed("vllm", [file(f"vllm-{name}.tar.gz") for name in [*names, "what"]])
    assert list(found) == ["0.9.0", "0.9.0.1", "0.10.0", "0.10.0.post1"]


NAMES = [
    f"torch-2.{minor}.0-cp3{python}-cp3{python}-{platform}.whl"
    for minor in (7, 10)
    for python in (9, 12)
    for platform in (LINUX, "win_amd64")
]


def all_merged(names: list[str]) -> ReleaseRows:
    found: ReleaseRows = {}
    for version, files in followed("torch", [file(name, "torch") for name in names]).items():
        found = merge(found, "torch", version, files, READ)
    return found


@given(st.permutations(NAMES))
def test_the_order_of_the_index_does_not_matter(names: list[str]) -> None:
    found = all_merged(names)
    assert found == all_merged(NAMES)
    assert list(found["torch"]) == ["2.7.0", "2.10.0"]
    assert found["torch"]["2.7.0"]["wheels"] == {LINUX: "cp39 cp312", "win_amd64": "cp39 cp312"}


def test_what_is_new_or_has_other_files_is_due() -> None:
    one = file(f"vllm-0.9.0-cp38-abi3-{LINUX}.whl")
    known = merge({}, "vllm", "0.9.0", [one], READ)
    assert to_read("vllm", {}, {"0.9.0": [one]}) == ["0.9.0"]
    assert to_read("vllm", known, {"0.9.0": [one]}) == []
    built = file(f"vllm-0.9.0-1-cp38-abi3-{LINUX}.whl")
    assert to_read("vllm", known, {"0.9.0": [one, built]}) == ["0.9.0"]
    assert to_read("vllm", known, {"0.9.0": [file(one.filename, sha256="1" * 64)]}) == ["0.9.0"]
    # What is not for Linux tells nothing of what is read.
    windows = file("vllm-0.9.0-cp38-abi3-win_amd64.whl")
    assert to_read("vllm", known, {"0.9.0": [one, windows]}) == []


def test_the_wheel_that_speaks_for_a_release() -> None:
    names = [
        f"vllm-0.20.1-cp38-abi3-{LINUX}.whl",
        f"vllm-0.20.1-2-cp38-abi3-{LINUX}.whl",
        f"vllm-0.20.1-2-cp312-cp312-{LINUX}.whl",
        f"vllm-0.20.1-10-cp38-abi3-{LINUX}.whl",
        "vllm-0.20.1-11-cp38-abi3-manylinux_2_28_aarch64.whl",
        "vllm-0.20.1.tar.gz",
    ]
    files = [file(name, size=size) for size, name in enumerate(names)]
    chosen = linux_wheel(files)
    assert chosen is not None and chosen.filename == names[3]
    small = linux_wheel(files[:3])
    assert small is not None and small.filename == names[1]
    yanked = [file(names[0]), file(names[3], yanked="bad")]
    assert linux_wheel(yanked) == yanked[0]
    assert linux_wheel(yanked[1:]) == yanked[1]
    assert linux_wheel(files[4:]) is None
    assert source_distribution(files) == files[-1] and source_distribution(files[:5]) is None
    anywhere = file("vllm-0.20.1-py3-none-any.whl")
    assert linux_wheel([anywhere]) == anywhere


def test_a_release_becomes_a_row() -> None:
    day = datetime(2026, 3, 1, 23, 30, tzinfo=timezone.utc)
    files = [
        file(f"vllm-0.19.1-cp38-abi3-{LINUX}.whl", uploaded=day.replace(hour=1, day=2)),
        file("vllm-0.19.1-cp38-abi3-manylinux2014_aarch64.manylinux_2_17_aarch64.whl"),
        file("vllm-0.19.1.tar.gz", uploaded=day),
    ]
    row = dict(merge({}, "vllm", "0.19.1", files, READ)["vllm"]["0.19.1"])
    assert len(str(row.pop("files"))) == 12
    assert row == {
        "version": "0.19.1",
        **READ.facts,
        "python": ">=3.10,<3.14",
        "uploaded": "2026-03-01",
        "wheels": {
            "manylinux2014_aarch64": "cp38-abi3",
            "manylinux_2_17_aarch64": "cp38-abi3",
            LINUX: "cp38-abi3",
        },
    }


@pytest.mark.parametrize(
    ("tag", "short"),
    [
        ("cp311-cp311", "cp311"),
        ("cp313-cp313t", "cp313t"),
        ("cp38-abi3", "cp38-abi3"),
        ("cp311-none", "cp311-none"),
        ("py3-none", "py3-none"),
    ],
)
def test_a_wheels_pythons_in_short(tag: str, short: str) -> None:
    found = merge({}, "torch", "2.9.0", [file(f"torch-2.9.0-{tag}-win_amd64.whl", "torch")], None)
    assert found["torch"]["2.9.0"]["wheels"] == {"win_amd64": short}


def test_what_was_not_read_is_not_written() -> None:
    one = file(f"vllm-0.19.1-cp38-abi3-{LINUX}.whl")
    assert merge({}, "vllm", "0.19.1", [one], None) == {}
    known = merge({}, "vllm", "0.19.1", [one], READ)
    other = [file(one.filename, sha256="1" * 64, yanked="bad", requires_python=None)]
    kept = merge(known, "vllm", "0.19.1", other, None)["vllm"]["0.19.1"]
    assert kept == {**known["vllm"]["0.19.1"], "yanked": "bad"}
    # So the next refresh reads it, and a torch that a vLLM may pin is there before it is read.
    assert to_read("vllm", {"vllm": {"0.19.1": kept}}, {"0.19.1": other}) == ["0.19.1"]
    wheel = file(f"torch-2.9.0-cp312-cp312-{LINUX}.whl", "torch")
    bare = merge({}, "torch", "2.9.0", [wheel], None)
    assert set(bare["torch"]["2.9.0"]) == {"version", "python", "wheels"}
    assert to_read("torch", bare, {"2.9.0": [wheel]}) == ["2.9.0"]


def test_what_is_read_again_replaces_what_was() -> None:
    one = file(f"vllm-0.19.1-cp38-abi3-{LINUX}.whl")
    known = merge({}, "vllm", "0.19.1", [one], READ)
    again = merge(
        known, "vllm", "0.19.1", [one], ReleaseMetadata(facts={"note": "no pin", "source": "sdist"})
    )
    row = again["vllm"]["0.19.1"]
    assert not {"torch", "torchvision", "cuda"} & row.keys()
    assert (row["note"], row["python"]) == ("no pin", ">=3.10,<3.14")


def test_a_release_is_yanked_where_all_its_files_are() -> None:
    good, bad = (
        file("vllm-0.19.1.tar.gz"),
        file(f"vllm-0.19.1-cp38-abi3-{LINUX}.whl", yanked="b\nd"),
    )
    known = merge({}, "vllm", "0.19.1", [good, bad], READ)
    assert "yanked" not in known["vllm"]["0.19.1"]
    yanked = merge(known, "vllm", "0.19.1", [bad], None)
    assert yanked["vllm"]["0.19.1"]["yanked"] == "b d"
    back = merge(yanked, "vllm", "0.19.1", [good, bad], None)
    assert "yanked" not in back["vllm"]["0.19.1"]
    assert [(change.kind, change.what) for change in changes(known, yanked)] == [("yanked", "b d")]
    assert [change.kind for change in changes(yanked, back)] == ["back"]


def test_a_vllm_that_cannot_be_read_has_a_note_and_the_loader_takes_it(tmp_path: Path) -> None:
    files = [file("vllm-0.34.0-cp38-abi3-manylinux_2_28_aarch64.whl", requires_python=None)]
    nothing = unreadable(files)
    assert nothing is not None
    found = merge({"torch": {}, "vllm": {}}, "vllm", "0.34.0", files, nothing)
    (tmp_path / "releases.json").write_text(to_json(found))
    (row,) = read_rows(tmp_path / "releases.json")["vllm"]
    assert row["note"] == "no wheel for Linux on x86_64 and no source distribution to read"
    assert unreadable([*files, file("vllm-0.34.0.tar.gz")]) is None


def test_a_range_of_pythons_that_is_none() -> None:
    with pytest.raises(MetadataError, match=r"^vllm 0\.19\.1: the index has Python 'new', which"):
        merge({}, "vllm", "0.19.1", [file("vllm-0.19.1.tar.gz", requires_python="new")], READ)


def test_a_torch_that_is_pinned_and_not_listed_is_noted() -> None:
    found = complete(rows(torch=[], vllm=[{"version": "0.40.0", "torch": "2.20.0"}]))
    assert found["torch"]["2.20.0"]["note"] == "the index does not list it; vLLM 0.40.0 pins it"


def companion(version: str, requires: str = "", day: str = "", **more: str) -> dict[str, Any]:
    return {"version": version, "requires": requires, "uploaded": day, "source": "wheel", **more}


@pytest.mark.parametrize(
    ("torch_version", "torchvision", "torchaudio"),
    [
        ("2.10.0", "0.25.1", "2.10.0"),  # exactly, the newest patch that is not yanked
        ("2.13.0", "0.28.0", "2.11.0"),  # torchaudio: as the newest vLLM of that torch pins
        ("2.14.0", "0.29.0", "2.11.0"),
        ("2.14.1", "0.29.1", "2.11.0"),  # accepted, and published before the next torch
        ("2.15.0", "0.29.2", "2.11.0"),
        ("2.10.1", None, None),  # torchaudio 2.11 is newer than it
    ],
)
def test_the_companions_of_a_torch(
    torch_version: str, torchvision: str | None, torchaudio: str | None
) -> None:
    days = {"2.10.0": "01", "2.10.1": "02", "2.13.0": "03", "2.14.0": "04", "2.14.1": "05"}
    days["2.15.0"] = "06"
    known = rows(
        torch=[torch(version, uploaded=f"2026-{day}-01") for version, day in days.items()],
        vllm=[
            {"version": "0.27.1", "torch": "2.13.0", "torchaudio": "2.10.0"},
            {"version": "0.31.0", "torch": "2.13.0", "torchaudio": "2.11.0"},
        ],
        torchvision=[
            companion("0.25.0", "==2.10.0"),
            companion("0.25.1", "==2.10.0"),
            companion("0.25.2", "==2.10.0", yanked="bad"),
            companion("0.28.0", "==2.13.0", "2026-03-01"),
            companion("0.29.0", "==2.14.0", "2026-04-01"),
            companion("0.29.1", ">=2.14.0", "2026-05-01"),
            companion("0.29.2", ">=2.14.0", "2026-06-01"),
        ],
        torchaudio=[companion("2.10.0", "==2.10.0"), companion("2.11.0", "", "2026-02-15")],
    )
    row = complete(known)["torch"][torch_version]
    assert (row.get("torchvision"), row.get("torchaudio")) == (torchvision, torchaudio)


@pytest.mark.parametrize(
    ("cuda", "audio", "chosen"),
    [
        # By CUDA: neither the newest of all, nor what was published last before the next torch.
        ("13.2", {"2.11.0": "13.0", "2.11.1": "13.2"}, ("2.11.1", None, None)),
        ("13.0", {"2.11.0": "13.0", "2.11.1": "13.2"}, ("2.11.0", None, None)),
        # None goes with it: vLLM starts without a torchaudio, and not with a wrong one.
        ("13.2", {"2.11.0": "13.0"}, (None, "torchaudio", None)),
        ("13.2", {"2.11.0": "12.2"}, (None, "torchaudio", None)),
        # A choice by the date alone says so.
        ("13.2", {"2.11.0": ""}, ("2.11.0", None, "torchaudio")),
        ("", {"2.11.0": "13.0"}, ("2.11.0", None, "torchaudio")),
        ("13.2", {"2.11.0": "", "2.11.1": "13.2"}, ("2.11.1", None, None)),
        # Nothing was published yet: that is not known, which is not the same as `without`.
        ("13.2", {}, (None, None, None)),
        ("13.2", {"2.16.0": "13.2"}, (None, None, None)),
    ],
)
def test_a_companion_is_chosen_by_the_cuda_of_its_wheel(
    cuda: str, audio: dict[str, str], chosen: tuple[str | None, ...]
) -> None:
    built = [
        companion(version, "", "2026-02-01", **({"cuda": has} if has else {}))
        for version, has in audio.items()
    ]
    row = torch("2.15.0", uploaded="2026-01-01", **({"cuda": cuda} if cuda else {}))
    found = complete(rows(torch=[row], vllm=[], torchvision=[], torchaudio=built))
    done = found["torch"]["2.15.0"]
    assert (done.get("torchaudio"), done.get("without"), done.get("guessed")) == chosen
    assert complete(found) == found


@pytest.mark.parametrize(
    ("audio", "chosen"),
    [
        ({"requires": "==2.15.0", "cuda": "13.0"}, (None, "torchaudio")),  # exactly, and unfit
        ({"requires": "==2.15.0", "cuda": "13.2"}, ("2.11.0", None)),
        ({"requires": "", "cuda": "13.0"}, (None, "torchaudio")),  # pinned, and unfit
        ({"requires": ""}, ("2.11.0", None)),  # pinned: no guess
    ],
)
def test_neither_a_requirement_nor_a_pin_makes_builds_fit(
    audio: dict[str, str], chosen: tuple[str | None, str | None]
) -> None:
    known = rows(
        torch=[torch("2.15.0", cuda="13.2")],
        vllm=[{"version": "0.34.0", "torch": "2.15.0", "torchaudio": "2.11.0"}],
        torchvision=[],
        torchaudio=[companion("2.11.0", **audio)],
    )
    row = complete(known)["torch"]["2.15.0"]
    assert (row.get("torchaudio"), row.get("without")) == chosen
    assert "guessed" not in row


def test_what_the_index_lists_no_more() -> None:
    one = file("vllm-0.19.1.tar.gz")
    known = merge({"vllm": {"0.9.0": {"version": "0.9.0"}}}, "vllm", "0.19.1", [one], READ)
    assert gone("vllm", known, {}) == ["0.19.1"]
    assert gone("vllm", known, {"0.19.1": [one]}) == []


def test_changes_tell_what_was() -> None:
    before = rows(vllm=[{"version": "0.9.0", "torch": "2.7.0", "cuda": "12.8", "files": "a"}])
    after = rows(
        vllm=[
            {"version": "0.9.0", "torch": "2.7.1", "uploaded": "2026-01-01", "files": "b"},
            {"version": "0.9.1", "torch": "2.7.1", "source": "sdist", "yanked": "bad"},
        ]
    )
    assert [(change.kind, change.version, change.what) for change in changes(before, after)] == [
        (
            "changed",
            "0.9.0",
            "torch 2.7.1 (was 2.7.0), cuda no more (was 12.8), uploaded 2026-01-01, other files",
        ),
        ("new", "0.9.1", "torch 2.7.1, yanked bad"),
    ]
    assert changes(after, after) == []


def test_the_file_has_a_release_a_line_and_reads_back(tmp_path: Path) -> None:
    known = rows(
        torch=[torch("2.10.0", wheels={LINUX: "cp312"}), torch("2.9.0")],
        vllm=[{"files": "a", "python": "", "torch": "2.10.0", "version": "0.9.0"}],
    )
    path = tmp_path / "releases.json"
    path.write_text(to_json(known))
    lines = path.read_text().splitlines()
    assert [json.loads(line.strip(" ,"))["version"] for line in lines if "version" in line] == [
        "2.9.0",
        "2.10.0",
        "0.9.0",
    ]
    assert '"version": "0.9.0", "torch": "2.10.0", "python": "", "files": "a"' in lines[-3 - 2]
    assert to_json(rows(**{key: list(v) for key, v in read_rows(path).items()})) == path.read_text()


def test_the_packages_own_file_is_as_it_would_be_written() -> None:
    known = rows(**read_rows(RELEASES_FILE))
    assert to_json(known) == RELEASES_FILE.read_text(encoding="utf-8")
    assert complete(known) == known
    assert all("source" in row for releases in known.values() for row in releases.values())
