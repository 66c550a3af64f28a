"""Source distributions are read from an index: new ones only, and what cannot be read is named."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from matrix.catalog import index as index_module
from matrix.catalog.index import Index
from matrix.errors import MatrixError
from matrix.report.upstream_tests import render_read
from matrix.rules.upstream.changes import ChangeOf
from matrix.rules.upstream.file import load_upstream
from matrix.rules.upstream.model import FLAG
from matrix.rules.upstream.sdist import UpstreamRead, read_upstream

if TYPE_CHECKING:
    from local_index import Served

TESTS = "tests/compile/h100/test_startup.py"
ENVS = f'import os\nenvironment_variables = {{"{FLAG}": lambda: os.getenv("{FLAG}", "0") == "1"}}\n'


def startup(models: dict[str, str], *, blocks: int = 8) -> str:
    """Return a startup test of vLLM's: a case for each model, with what its start saves."""
    rows = ", ".join(
        f'pytest.param({{"model": {name!r}, "saved": {saved}}}, id={name!r})'
        for name, saved in models.items()
    )
    return f"""
import pytest
from vllm.compilation.counter import compilation_counter

@pytest.mark.parametrize("spec", [{rows}])
def test_model_startup(monkeypatch, vllm_runner, spec):
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    with vllm_runner(spec["model"], num_gpu_blocks_override={blocks}):
        pass
    assert compilation_counter.num_compiled_artifacts_saved == spec["saved"]
"""


@pytest.fixture
def index(served: Served) -> Iterator[Index]:
    client = Index(served.url, tries=2, backoff=0)
    yield client
    client.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "upstream.json"


def add(served: Served, version: str, tests: str | None, *, envs: str = ENVS) -> str:
    members = {"PKG-INFO": "", "vllm/envs.py": envs}
    if tests is not None:
        members[TESTS] = tests
    content = served.sdist(f"vllm-{version}", members)
    return served.add("vllm", f"vllm-{version}.tar.gz", content)


def asked(served: Served) -> list[str]:
    return [address for address, _ in served.asked if address.startswith("/files/")]


def kinds(done: UpstreamRead) -> list[tuple[str, str, str]]:
    return [(change.version, change.kind.value, change.case) for change in done.changes]


def test_each_release_is_read_once(served: Served, index: Index, path: Path) -> None:
    add(served, "0.15.1", startup({"one": "3"}))
    for version in ("0.16.0", "0.20.0", "0.21.0rc1"):
        add(served, version, startup({"one": "3"}))
    done = read_upstream(path, index)
    assert (done.failures, done.changes, done.read) == ((), (), 2)
    known = load_upstream(path)
    assert known == done.upstream
    assert [release.version for release in known.releases] == ["0.16.0", "0.20.0"]
    (first, last) = known.releases
    assert first.files == last.files and list(first.files) == [TESTS]
    assert first.link(TESTS) == f"https://github.com/vllm-project/vllm/blob/v0.16.0/{TESTS}"
    assert first.flags[FLAG].at("2.13.0") == 0
    before = asked(served)
    text = path.read_text()
    assert read_upstream(path, index) == UpstreamRead(upstream=known)
    assert (asked(served), path.read_text()) == (before, text)
    again = read_upstream(path, index, every=True)
    assert (again.read, again.upstream) == (2, known)
    assert len(asked(served)) == 2 * len(before)


def test_a_new_release_shows_what_upstream_changed(
    served: Served, index: Index, path: Path
) -> None:
    add(served, "0.20.0", startup({"one": "3", "two": "4"}))
    read_upstream(path, index)
    add(served, "0.21.0", startup({"one": "9", "new": "1"}, blocks=32))
    done = read_upstream(path, index)
    assert done.read == 1
    assert kinds(done) == [
        ("0.21.0", "number", "test_model_startup[one]"),
        ("0.21.0", "setting", "test_model_startup[one]"),
        ("0.21.0", "case gone", "test_model_startup[two]"),
        ("0.21.0", "new case", "test_model_startup[new]"),
    ]
    lines = render_read(done, "upstream.json").splitlines()
    assert lines[0].split("  ")[-1].strip() == "num_compiled_artifacts_saved 9 (was 3)"
    assert lines[1].endswith("num_gpu_blocks_override 32 (was 8)")
    assert lines[2].endswith("was there in 0.20.0")
    assert lines[3].endswith("cold: num_compiled_artifacts_saved 1")
    assert lines[4] == "upstream.json: 2 releases, 1 read, 4 changes"


def test_a_moved_file_and_another_default_are_changes(
    served: Served, index: Index, path: Path
) -> None:
    add(served, "0.20.0", startup({"one": "3"}))
    members = {
        "vllm/envs.py": ENVS.replace('"0"', '"1"'),
        "tests/compile/test_startup.py": startup({"one": "3"}),
    }
    served.add("vllm", "vllm-0.21.0.tar.gz", served.sdist("vllm-0.21.0", members))
    done = read_upstream(path, index)
    assert [change.kind for change in done.changes] == [ChangeOf.FILE, ChangeOf.FLAG]
    assert f"{FLAG} 1 (was 0)" in render_read(done, "upstream.json")


@pytest.mark.parametrize(
    ("tests", "envs", "fault"),
    [
        (None, ENVS, "its source distribution has no startup test"),
        ("def (\n", ENVS, f"{TESTS}: this Python does not read its syntax"),
        (
            startup({"one": "make()"}),
            ENVS,
            "is not a literal number of num_compiled_artifacts_saved",
        ),
        (
            startup({"one": "3"}).replace("[pytest", "make([pytest").replace(")])", ")]))"),
            ENVS,
            "the parameters of test_model_startup are not literals",
        ),
        (startup({"one": "3 + 1"}), ENVS, "is not a literal number"),
        (startup({"one": "3"}), "", f"the default of {FLAG} was not found in vllm/envs.py"),
    ],
)
def test_what_is_not_understood_is_named_and_the_rest_goes_on(
    served: Served, index: Index, path: Path, tests: str | None, envs: str, fault: str
) -> None:
    add(served, "0.20.0", startup({"one": "3"}))
    add(served, "0.21.0", tests, envs=envs)
    add(served, "0.22.0", startup({"one": "3"}))
    done = read_upstream(path, index)
    (line,) = done.failures
    assert line.startswith("vLLM 0.21.0: ") and fault in line and "\n" not in line
    assert [release.version for release in load_upstream(path).releases] == [
        "0.20.0",
        "0.21.0",
        "0.22.0",
    ]
    assert "not all was read of 0.21.0; 1 failed" in render_read(done, "upstream.json")
    # What it says will not change: it is not fetched again.
    before = asked(served)
    assert read_upstream(path, index).failures == ()
    assert asked(served) == before


def test_a_release_without_tests_is_no_case_gone(served: Served, index: Index, path: Path) -> None:
    add(served, "0.20.0", startup({"one": "3"}))
    add(served, "0.21.0", None)
    done = read_upstream(path, index)
    assert [change.kind for change in done.changes] == [ChangeOf.UNREAD]


def test_a_truncated_archive_is_named_and_asked_again(
    served: Served, index: Index, path: Path
) -> None:
    content = served.sdist("vllm-0.21.0", {"vllm/envs.py": ENVS * 200, TESTS: startup({"a": "1"})})
    served.add("vllm", "vllm-0.21.0.tar.gz", content[: len(content) // 2])
    add(served, "0.20.0", startup({"one": "3"}))
    done = read_upstream(path, index)
    (line,) = done.failures
    assert line.startswith("vLLM 0.21.0: vllm-0.21.0.tar.gz: is not an archive that can be read (")
    assert [release.version for release in load_upstream(path).releases] == ["0.20.0"]
    assert read_upstream(path, index).failures == (line,)


def test_a_file_with_another_hash_is_not_read(served: Served, index: Index, path: Path) -> None:
    at = add(served, "0.20.0", startup({"one": "3"}))
    served.contents[at] = served.sdist("vllm-0.20.0", {TESTS: startup({"one": "9"})})
    (line,) = read_upstream(path, index).failures
    assert line.startswith("vLLM 0.20.0: vllm-0.20.0.tar.gz: ")
    assert not path.exists()


def test_a_release_without_a_source_distribution_is_named_once(
    served: Served, index: Index, path: Path
) -> None:
    wheel = served.wheel({"vllm-0.20.0.dist-info/METADATA": ""})
    served.add("vllm", "vllm-0.20.0-cp38-abi3-manylinux_2_31_x86_64.whl", wheel)
    done = read_upstream(path, index)
    assert done.failures == ("vLLM 0.20.0: the index has no source distribution of it",)
    assert read_upstream(path, index).failures == ()
    add(served, "0.20.0", startup({"one": "3"}))
    assert read_upstream(path, index).read == 1
    (release,) = load_upstream(path).releases
    assert release.every_fault() == () and list(release.files) == [TESTS]


def test_nothing_of_an_archive_is_written_or_followed(
    served: Served, index: Index, path: Path, tmp_path: Path
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        link = tarfile.TarInfo(f"vllm-0.20.0/{TESTS}")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name in ("../../escaped.py", f"{tmp_path}/escaped.py", "vllm-0.20.0/../escaped.py"):
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"1"))
    served.add("vllm", "vllm-0.20.0.tar.gz", out.getvalue())
    before = set(tmp_path.rglob("*"))
    done = read_upstream(path, index)
    assert any("has no startup test" in line for line in done.failures)
    assert set(tmp_path.rglob("*")) - before == {path}


def test_only_so_many_files_of_an_archive_are_read(
    served: Served, index: Index, path: Path
) -> None:
    members = {f"tests/compile/f{n}/test_startup.py": startup({"one": "3"}) for n in range(40)}
    content = served.sdist("vllm-0.20.0", {"vllm/envs.py": ENVS} | members)
    served.add("vllm", "vllm-0.20.0.tar.gz", content)
    read_upstream(path, index)
    (release,) = load_upstream(path).releases
    assert len(release.files) < 16


def test_an_archive_that_unpacks_to_too_much_is_not_read(
    served: Served, index: Index, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_UNPACKED", 1 << 10)
    add(served, "0.20.0", startup({"one": "3"}))
    (line,) = read_upstream(path, index).failures
    assert "unpacks to more than" in line


def test_an_index_without_vllm_and_a_bad_file_are_errors(
    served: Served, index: Index, path: Path
) -> None:
    with pytest.raises(MatrixError, match="vllm: is not on the index"):
        read_upstream(path, index)
    path.write_text("{")
    add(served, "0.20.0", startup({"one": "3"}))
    with pytest.raises(MatrixError, match="is not JSON"):
        read_upstream(path, index)
    assert path.read_text() == "{"
