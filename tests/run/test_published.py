"""Which file of an index an installed release is: a real uv, an index on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fake_wheels import write_wheel
from matrix._util.files import digest_of
from matrix.bundle.run import WHEELS
from matrix.catalog.index import FetchError, Index
from matrix.catalog.projects import Project
from matrix.checks.resolution import resolver
from matrix.record.model import Platform
from matrix.run.origin import look_at_origins, origins_of
from matrix.run.published import note_published
from matrix.run.wheel_content import (
    NOTE,
    IndexedFile,
    content_of,
    read_bundled,
    read_note,
    write_note,
)

if TYPE_CHECKING:
    from local_index import Served
    from matrix.catalog.cells import Cell
    from matrix.catalog.releases import Releases

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
MEMBERS = {
    "torch/version.py": "git_version = '70d99e998b49'\n",
    "torch-2.11.0.data/purelib/torch/more.py": "",
    "torch-2.11.0.data/scripts/torchrun": "#!python\n",
    "torch-2.11.0.data/data/share/torch.txt": "",
    "torch-2.11.0.dist-info/entry_points.txt": "[console_scripts]\ntorchy = torch:main\n",
}
OTHER = {**MEMBERS, "torch/version.py": "git_version = 'f1f1f1f1f1f1'\n"}
UPLOADED = "2026-03-01T10:00:00Z"


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Make an environment, its folder of packages and its Python."""
    folder = tmp_path / "environment"
    subprocess.run([*resolver.uv(), "venv", "-q", "--python", sys.executable, folder], check=True)
    return folder


def site_of(environment: Path) -> Path:
    (site,) = environment.glob("lib/python*/site-packages")
    return site


def install(environment: Path, index: str, *requirements: str) -> None:
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    subprocess.run(
        [
            *resolver.uv(),
            *("pip", "install", "-q", "--no-config", "--no-cache", "--default-index", index),
            *("--python", str(environment / "bin" / "python"), *requirements),
        ],
        env=kept,
        check=True,
    )


def wheel(folder: Path, members: dict[str, str], tag: str = "py3-none-any") -> Path:
    folder.mkdir(exist_ok=True)
    return write_wheel(folder, "torch", "2.11.0", members, tag=tag)


def note(served: Served, environment: Path) -> dict[str, IndexedFile | None]:
    """Ask the index, and return what is noted of the environment."""
    note_published(
        environment, site_of(environment), PYTHON, list(Project), index=partial(client, served)
    )
    return dict(read_note(environment))


def client(served: Served) -> Index:
    return Index(served.url, tries=1)


def test_the_file_is_found_that_uv_installed(
    served: Served, tmp_path: Path, environment: Path
) -> None:
    served.ranges = True
    path = wheel(tmp_path / "wheels", MEMBERS)
    served.add_wheel(path)
    install(environment, served.url, "torch==2.11.0")
    served.asked.clear()
    expected = IndexedFile(index=served.url, file=path.name, sha256=digest_of(path), built=UPLOADED)
    assert list(note(served, environment).values()) == [expected]
    assert not any(name.endswith(".whl") and part is None for name, part in served.asked)
    served.asked.clear()
    assert list(note(served, environment).values()) == [expected]
    assert served.asked == []  # it is noted


def test_a_file_of_the_same_name_and_version_with_other_content_is_another(
    served: Served, tmp_path: Path, environment: Path
) -> None:
    served.ranges = True
    served.add_wheel(wheel(tmp_path / "wheels", MEMBERS))
    install(environment, served.url, "torch==2.11.0")
    served.change(wheel(tmp_path / "others", OTHER))
    assert list(note(served, environment).values()) == [None]
    served.asked.clear()
    note(served, environment)
    assert served.asked == []  # that it is not there is noted too


def test_one_wheel_of_several_is_found_by_its_content(
    served: Served, tmp_path: Path, environment: Path
) -> None:
    served.ranges = True
    path = wheel(tmp_path / "wheels", MEMBERS)
    served.add_wheel(path)
    install(environment, served.url, "torch==2.11.0")
    served.add_wheel(wheel(tmp_path / "wheels", OTHER, tag=f"cp{PYTHON.replace('.', '')}-none-any"))
    (found,) = note(served, environment).values()
    assert found is not None and found.file == path.name


def test_without_parts_no_wheel_is_fetched_and_the_file_stays_unknown(
    served: Served, tmp_path: Path, environment: Path
) -> None:
    path = wheel(tmp_path / "wheels", MEMBERS)
    served.add_wheel(path)
    install(environment, served.url, "torch==2.11.0")
    served.asked.clear()
    assert list(note(served, environment).values()) == [None]
    wheels = [part for name, part in served.asked if name.endswith(".whl")]
    assert wheels == ["bytes=0-0"]


def test_an_index_without_the_project_is_noted_and_one_that_fails_is_asked_again(
    served: Served, tmp_path: Path, environment: Path
) -> None:
    path = wheel(tmp_path / "wheels", MEMBERS)
    served.add_wheel(path)
    install(environment, served.url, "torch==2.11.0")
    served.faults["/simple/torch/"] = [500]
    with pytest.raises(FetchError, match="answers 500"):
        note(served, environment)
    assert not (environment / NOTE).exists()
    del served.projects["torch"]
    assert list(note(served, environment).values()) == [None]


def test_what_is_not_from_an_index_is_not_asked_about(
    served: Served, tmp_path: Path, environment: Path
) -> None:
    path = wheel(tmp_path / "wheels", MEMBERS)
    served.add_wheel(path)
    install(environment, served.url, f"torch @ {path.as_uri()}")
    served.asked.clear()
    assert note(served, environment) == {} and served.asked == []


def test_credentials_of_the_index_are_not_noted(
    served: Served, tmp_path: Path, environment: Path
) -> None:
    served.ranges, served.login = True, ("ann", "hunter2")
    path = wheel(tmp_path / "wheels", MEMBERS)
    served.add_wheel(path)
    install(environment, served.url_with_login, "torch==2.11.0")
    note_published(
        environment,
        site_of(environment),
        PYTHON,
        [Project.TORCH],
        index=lambda: Index(served.url_with_login, tries=1),
    )
    (found,) = read_note(environment).values()
    assert found is not None and found.index == served.url
    assert "hunter2" not in (environment / NOTE).read_text()


def test_a_record_has_what_is_noted_of_this_content_alone(
    served: Served, tmp_path: Path, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matrix.catalog.cells import Cell
    from matrix.catalog.releases_file import load_releases

    served.ranges = True
    path = wheel(tmp_path / "wheels", MEMBERS)
    served.add_wheel(path)
    install(environment, served.url, "torch==2.11.0")
    note(served, environment)
    monkeypatch.setattr(sys, "path", [str(site_of(environment))])
    monkeypatch.setattr(sys, "prefix", str(environment))
    cell, releases = Cell(PYTHON, "2.11.0", "0.26.0"), load_releases()
    torch = torch_of(cell, releases)
    assert torch == (served.url, path.name, digest_of(path), UPLOADED)
    (content,) = read_note(environment)
    write_note(environment, {f"{content[:-1]}x": read_note(environment)[content]})
    assert torch_of(cell, releases) == (None, path.name, None, None)


def torch_of(cell: Cell, releases: Releases) -> tuple[str | None, ...]:
    torch, _ = origins_of(cell, releases, look_at_origins(), Platform.CPU)
    return torch.index, torch.file, torch.sha256, torch.built


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"a": 1}',
        '{"a": {"index": "i"}}',
        '{"a": {"index": "i", "file": "f", "sha256": 1}}',
        "[" * 100_000,
        '{"a"' + " " * (1 << 20) + ": null}",
    ],
)
def test_a_note_that_cannot_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / NOTE).write_text(text)
    assert read_note(tmp_path) == {}
    (tmp_path / NOTE).write_bytes(b"\xff")
    assert read_note(tmp_path) == {}


def test_what_a_bundle_installed_holds_for_the_record_that_it_left(tmp_path: Path) -> None:
    record = "torch/a.py,sha256=x,1\n"
    row = {"file": "t.whl", "sha256": "12", "record": sha256(record.encode()).hexdigest()}
    note = tmp_path / WHEELS
    assert read_bundled(tmp_path, Project.TORCH, record) is None
    note.write_text(json.dumps({"torch": row}))
    assert read_bundled(tmp_path, Project.TORCH, record) == IndexedFile(file="t.whl", sha256="12")
    assert read_bundled(tmp_path, Project.TORCH, f"{record}torch/b.py,sha256=y,1\n") is None
    assert read_bundled(tmp_path, Project.VLLM, record) is None
    for text in ("", "[]", '{"torch": 1}', json.dumps({"torch": {**row, "file": 1}})):
        note.write_text(text)
        assert read_bundled(tmp_path, Project.TORCH, record) is None


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = {"a": None, "b": IndexedFile(index="https://i.example/simple/", file="f.whl")}
    write_note(tmp_path, found)
    assert read_note(tmp_path) == found
    assert json.loads((tmp_path / NOTE).read_text())["b"]["sha256"] is None


def test_a_record_without_rows_of_the_wheel_has_no_content() -> None:
    assert content_of("") is None and content_of("torch/a.py,,\n") is None
    assert content_of("../bin/a,sha256=x,1\n") is None
