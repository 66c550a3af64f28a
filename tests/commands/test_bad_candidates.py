"""`matrix candidate` with what nobody should give it: one line, no password, nothing lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from command import matrix
from fake_wheels import write_wheel
from local_index import Fault, Served
from matrix.catalog import index_session
from matrix.catalog.candidates import file
from matrix.catalog.candidates.collection import Candidates
from matrix.catalog.candidates.file import change_candidates, load_candidates
from matrix.catalog.index import Index
from matrix.catalog.lock import alone
from vllm_tree import write_tree

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Command = Callable[..., "subprocess.CompletedProcess[str]"]
WHEEL = "torch-2.16.0+cu130-cp312-cp312-manylinux_2_17_x86_64.whl"
METADATA = "Metadata-Version: 2.1\nName: torch\nVersion: 2.16.0+cu130\n"


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    return tmp_path / "candidates.toml"


@pytest.fixture
def run(tmp_path: Path, candidates: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setattr(Index.__init__, "__kwdefaults__", {"tries": 1, "backoff": 0.0})

    def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        own = {"MATRIX_CANDIDATES": str(candidates), "MATRIX_CACHE": str(tmp_path / "cache")}
        environ = {**own, "CUDA_VISIBLE_DEVICES": "", **environ}
        return matrix(tmp_path, "candidate", *arguments, **environ)

    return command


def refused(done: subprocess.CompletedProcess[str], fault: str) -> None:
    """Assert that it is one line on stderr, with exit status 2 and without the password."""
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert fault in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def publish(served: Served, **facts: object) -> None:
    content = served.wheel({"torch-2.16.0+cu130.dist-info/METADATA": METADATA})
    served.add("torch", WHEEL, content, pep658=METADATA, **facts)


@pytest.mark.parametrize(
    "place",
    [
        "ftp://me:hunter2@host.example/x",
        "http://me:hunter2@[bad/x",
        "https://me:hunter2@127.0.0.1:99999/x",
        "http://me:hunter2@//x",
        "me:hunter2@host.example/x",
        "//me:hunter2@host.example/x",
    ],
)
def test_an_address_that_is_wrong_is_one_line_without_its_login(run: Command, place: str) -> None:
    for more in (["--index", place], ["--wheel", f"{place}/{WHEEL}"]):
        refused(run("add", "torchrc", *more), "")
    refused(run("add", "vllmmine", "--sdist", f"{place}/vllm-0.33.0.tar.gz"), "")


def test_an_address_without_a_commit_is_not_asked_for_its_login(run: Command) -> None:
    done = run("add", "vllmmine", "--commit", "https://hunter2@host.example/vllm")
    refused(done, "--commit https://host.example/vllm: write REPOSITORY@REVISION")


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ((302, {"Location": "ftp://me:hunter2@host.example/x"}), "does not answer"),
        ((302, {"Location": "http://[bad"}), "is not a page of the simple API"),
        ((302, {"Location": "/simple/torch/"}), "does not answer (Exceeded 30 redirects.)"),
        (302, "answers 302 Found"),
    ],
)
def test_a_redirect_that_leads_nowhere(
    served: Served, run: Command, fault: Fault, line: str
) -> None:
    publish(served)
    served.faults["/simple/torch/"] = [fault] * 40
    refused(run("add", "torchrc", "--index", served.url), line)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("application/vnd.pypi.simple.v1+json", "[" * 100_000),
        ("application/vnd.pypi.simple.v1+json", "[]"),
        ("application/vnd.pypi.simple.v1+json", '{"files":'),
        ("text/html; charset=banana", "\x80<h1>503"),
    ],
)
def test_a_page_that_is_not_one(served: Served, run: Command, kind: str, text: str) -> None:
    served.pages["torch"] = (kind, text)
    refused(run("add", "torchrc", "--index", served.url), "torch")


def test_a_page_without_an_end_is_not_read(
    served: Served, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_session, "_LARGEST", 1 << 20)
    served.pages["torch"] = ("text/html", "<p>" * (1 << 19))
    refused(run("add", "torchrc", "--index", served.url), "does not answer (it sends more than 1 M")
    served.pages.clear()
    content = served.wheel({"torch-2.16.0+cu130.dist-info/METADATA": METADATA})
    served.add("torch", WHEEL, content, pep658=METADATA + "x" * (1 << 20))
    refused(run("add", "torchrc", "--index", served.url), ".metadata: does not answer (it sends")


LONG = "9" * 5000  # digits, more than Python reads as a number


@pytest.mark.parametrize(
    "name",
    [
        f"torch-{LONG}-cp312-cp312-manylinux_2_17_x86_64.whl",
        f"torch-2.16.0-{LONG}-cp312-cp312-manylinux_2_17_x86_64.whl",
        f"torch-{LONG}.tar.gz",
    ],
)
def test_a_file_whose_name_has_too_long_a_number_is_left_out(
    served: Served, run: Command, name: str
) -> None:
    served.add("torch", name)
    refused(run("add", "torchrc", "--index", served.url), "has no wheel of torch")
    publish(served)
    assert run("add", "torchrc", "--index", served.url).returncode == 0
    refused(run("add", "vllmmine", "--sdist", f"vllm-{LONG}.tar.gz"), "is not the name of a source")


@pytest.mark.parametrize(
    "line",
    [
        "Requires-Dist: numpy; python_version ~= 'abc'",
        "Requires-Dist: numpy; 'x' in extras",
        f"Requires-Dist: triton=={LONG}",
        f"Requires-Python: >={LONG}",
    ],
)
def test_metadata_that_cannot_be_asked_are_refused(served: Served, run: Command, line: str) -> None:
    text = f"{METADATA}{line}\n"
    content = served.wheel({"torch-2.16.0+cu130.dist-info/METADATA": text})
    served.add("torch", WHEEL, content, pep658=text)
    refused(run("add", "torchrc", "--index", served.url), "torch 2.16.0+cu130: its metadata is ref")


@pytest.mark.parametrize(
    ("member", "text"),
    [
        ("requirements/cuda.txt", "torch==2.14.0; python_version ~= 'abc'\n"),
        ("requirements/cuda.txt", f"torch=={LONG}\n"),
        ("pyproject.toml", f"[project]\nname = 'vllm'\nrequires-python = '>={LONG}'\n"),
    ],
)
def test_sources_that_cannot_be_asked_are_refused(
    run: Command, candidates: Path, tmp_path: Path, member: str, text: str
) -> None:
    tree = write_tree(tmp_path / "tree", more={member: text})
    done = run("add", "vllmmine", "--tree", str(tree), "--version", "0.33.0")
    refused(done, member)
    assert not candidates.exists()


def test_a_build_for_no_python_of_the_matrix_says_so(served: Served, run: Command) -> None:
    text = f"{METADATA}Requires-Python: >=3.99\n"
    content = served.wheel({"torch-2.16.0+cu130.dist-info/METADATA": text})
    served.add("torch", WHEEL, content, pep658=text)
    done = run("add", "torchrc", "--index", served.url)
    assert "torchrc added: torch 2.16.0+cu130 for no Python of the matrix\n" in done.stdout


def test_a_range_in_the_file_with_too_long_a_number(
    served: Served, run: Command, candidates: Path
) -> None:
    publish(served)
    assert run("add", "torchrc", "--index", served.url).returncode == 0
    row = 'project = "torch"\n'
    text = candidates.read_text().replace(row, f"{row}python = '>={LONG}'\n")
    candidates.write_text(text)
    refused(run("list"), "is not a range; write it as >=3.10,<3.14")


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ("2026-03-01T10:00:00+05:00", "2026-03-01T05:00:00Z"),
        ("2026-03-01T10:00:00", "2026-03-01T10:00:00Z"),
        ("9999-12-31T23:59:59-05:00", None),
        ("0001-01-01T00:00:00+05:00", None),
    ],
)
def test_the_time_of_an_upload_is_in_utc_or_not_known(
    served: Served, run: Command, candidates: Path, given: str, recorded: str | None
) -> None:
    publish(served, upload_time=given)
    for day, needs in ((1, ">=2.0"), (2, ">=2.1")):  # both go with it: the nearest by its time
        name = f"torchvision-0.3{day}.0-cp312-cp312-manylinux_2_17_x86_64.whl"
        text = f"Metadata-Version: 2.1\nName: torchvision\nVersion: 0.3{day}.0\n"
        text += f"Requires-Dist: torch{needs}\n"
        served.add("torchvision", name, pep658=text, upload_time=f"2026-03-0{day}T08:00:00Z")
    done = run("add", "torchrc", "--index", served.url)
    assert done.returncode == 0, done.stderr
    (row,) = tomllib.loads(candidates.read_text())["candidate"]
    assert row["files"][0].get("uploaded") == recorded


def test_an_index_of_a_newer_form_is_read_without_a_warning(served: Served, run: Command) -> None:
    publish(served)
    kind, text = served.page("torch", as_html=False)
    served.pages["torch"] = (kind, text.replace('"1.1"', '"1.99"'))
    with warnings.catch_warnings(record=True) as shown:
        assert run("add", "torchrc", "--index", served.url).returncode == 0
    assert not shown


@pytest.mark.parametrize("digest", ["XYZ", "", "AB" * 32])
def test_what_was_added_can_be_read_whatever_the_index_says(
    served: Served, run: Command, candidates: Path, digest: str
) -> None:
    publish(served, hashes={"sha256": digest})
    done = run("add", "torchrc", "--index", served.url)
    assert done.returncode == 0, done.stderr
    (row,) = tomllib.loads(candidates.read_text())["candidate"]
    assert row["files"][0]["sha256"] == load_candidates(candidates).every[0].files[0].sha256


def test_nothing_is_written_that_cannot_be_read(
    served: Served, run: Command, candidates: Path
) -> None:
    publish(served, size=10**30)
    done = run("add", "torchrc", "--index", served.url)
    refused(done, f"size: {10**30} is not a number of bytes")
    assert not candidates.exists()


def test_two_at_once_lose_no_candidate(
    run: Command, candidates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first one waits for the file, the second one writes its own."""
    place = ["--tree", str(write_tree(tmp_path / "tree")), "--version", "0.33.0"]
    meanwhile = [["remove", "vllmgone"], ["add", "vllmtwo", *place]]
    assert run("add", "vllmgone", *place).returncode == 0

    @contextlib.contextmanager
    def late(_: Path) -> Iterator[None]:
        while meanwhile:
            assert run(*meanwhile.pop()).returncode == 0
        yield

    monkeypatch.setattr(file, "alone", late)
    assert run("add", "vllmone", *place).returncode == 0
    names = [candidate.name for candidate in load_candidates(candidates).every]
    assert names == ["vllmone", "vllmtwo"]


def test_whoever_changes_the_candidates_is_alone(tmp_path: Path) -> None:
    order: list[str] = []
    inside, path = threading.Event(), tmp_path / "candidates.toml"

    def first(now: Candidates) -> None:
        second.start()
        inside.wait(10)  # until the second one waits
        order.append("first")

    def wait() -> None:
        with alone(tmp_path / ".candidates.toml.lock", inside.set):
            order.append("second")

    second = threading.Thread(target=wait)
    change_candidates(first, path)
    second.join()
    assert order == ["first", "second"]
    assert not list(tmp_path.iterdir())


def test_sources_that_are_not_for_a_python_are_not_added_for_it(
    run: Command, candidates: Path, tmp_path: Path
) -> None:
    tree = write_tree(tmp_path / "tree")
    done = run("add", "vllmmine", "--tree", str(tree), "--version", "0.33.0", "--python", "3.99")
    refused(done, "tree: is for Python <3.15,>=3.10, not for 3.99; name another")
    assert not candidates.exists()


def test_a_file_that_is_none_is_not_read(run: Command, candidates: Path) -> None:
    os.mkfifo(candidates)  # to open it would wait for whoever writes
    refused(run("list"), "candidates.toml: is not a file; name another")
    candidates.unlink()
    candidates.mkdir()
    refused(run("remove", "vllmmine"), "candidates.toml: is not a file")


def test_a_link_to_itself_is_not_read(run: Command, candidates: Path) -> None:
    candidates.symlink_to(candidates)
    for arguments in (["list"], ["remove", "vllmmine"]):
        refused(run(*arguments), "candidates.toml: cannot be read (Too many levels of symbolic")


def test_the_root_folder_is_not_a_file(run: Command) -> None:
    for arguments in (["list"], ["remove", "vllmmine"]):
        refused(run(*arguments, MATRIX_CANDIDATES="/"), "/: is not a file; name another")


def test_the_null_device_has_no_candidates_and_gets_none(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "null"  # a writer that runs as root would take the place of the real one
    monkeypatch.setattr(os, "devnull", str(device))
    place = ["--tree", str(write_tree(tmp_path / "tree")), "--version", "0.33.0"]
    refused(
        run("add", "vllmmine", *place, MATRIX_CANDIDATES=str(device)),
        "null: keeps no candidates; name a file: MATRIX_CANDIDATES",
    )
    assert not device.exists()
    assert run("list", MATRIX_CANDIDATES=str(device)).returncode == 0


def test_a_torch_is_not_a_companion_of_itself(
    run: Command, candidates: Path, tmp_path: Path
) -> None:
    path = str(write_wheel(tmp_path, "torch", "2.15.0", tag="cp38-abi3-manylinux_2_17_x86_64"))
    done = run("add", "torchmine", "--wheel", path, "--companion", path)
    refused(done, "is not a companion; these are torchvision, torchaudio, triton")
    assert not candidates.exists()


def test_a_link_to_the_file_stays(run: Command, candidates: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared.toml"
    candidates.symlink_to(shared)
    place = ["--tree", str(write_tree(tmp_path / "tree")), "--version", "0.33.0"]
    assert run("add", "vllmmine", *place).returncode == 0
    assert candidates.is_symlink()
    assert [candidate.name for candidate in load_candidates(shared).every] == ["vllmmine"]


def test_the_path_of_a_wheel_is_kept_whole(run: Command, candidates: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a #?%20"
    folder.mkdir()
    path = write_wheel(folder, "torch", "2.15.0", tag="cp38-abi3-manylinux_2_17_x86_64")
    for given in (str(path), f"{folder.name}/{path.name}"):
        assert run("add", "torchmine", "--wheel", given).returncode == 0
        (row,) = tomllib.loads(candidates.read_text())["candidate"]
        assert row["source"]["location"] == str(path)


@pytest.mark.parametrize("option", ["index", "wheel", "commit", "tree", "sdist"])
def test_nothing_is_no_place(run: Command, option: str) -> None:
    name = "torchmine" if option in ("index", "wheel") else "vllmmine"
    refused(run("add", name, f"--{option}", ""), f"--{option}: is empty; name one")


@pytest.mark.parametrize("option", ["--wheel", "--sdist"])
def test_a_file_counts_as_no_other_version(run: Command, option: str) -> None:
    name = "vllm-0.33.0.tar.gz" if option == "--sdist" else "vllm-0.33.0-py3-none-any.whl"
    done = run("add", "vllmmine", option, name, "--version", "0.34.0")
    refused(done, "--version: goes with --index, --commit and --tree; a file has its own")


@pytest.mark.parametrize(
    ("name", "how"), [("torchmine", "--wheel"), ("vllmmine", "--sdist")], ids=["wheel", "sdist"]
)
def test_a_file_without_a_size_is_not_read_to_its_end(
    run: Command, tmp_path: Path, candidates: Path, name: str, how: str
) -> None:
    """As those below /proc, which may never end; and a pipe, which may never begin."""
    file_name = WHEEL if how == "--wheel" else "vllm-0.33.0.tar.gz"
    (tmp_path / file_name).symlink_to("/proc/stat")
    refused(run("add", name, how, file_name), "has no size")
    (tmp_path / file_name).unlink()
    os.mkfifo(tmp_path / file_name)
    refused(run("add", name, how, file_name), "does not exist")
    assert not candidates.exists()
