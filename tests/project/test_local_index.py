"""The index of the tests, as a real uv and the project's own client see it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from fake_wheels import write_torch, write_wheel
from local_index import JSON, Served, Slow, serving
from matrix.catalog.index import FetchError, Index
from matrix.catalog.published_file import PublishedFile
from matrix.checks.resolution.resolver import uv
from reversion import reversion

NEW_GIT = "f" * 40
PLATFORM = ["--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_35"]


@pytest.fixture
def environ(served: Served, tmp_path: Path) -> Mapping[str, str]:
    """Nothing of the person who runs the tests; `served` keeps proxies away."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "PIP_"))}
    cache = str(tmp_path / "cache")
    return {**kept, "UV_CACHE_DIR": cache, "UV_HTTP_RETRIES": "0", "UV_NO_CONFIG": "1"}


def compiled(environ: Mapping[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    command = [*uv(), "pip", "compile", "--no-header", "--no-annotate", *PLATFORM, *more]
    command += ["--python", sys.executable]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def requirement(folder: Path, text: str) -> str:
    path = folder / "requirements.in"
    path.write_text(f"{text}\n")
    return str(path)


@pytest.fixture
def torches(served: Served, tmp_path: Path) -> Path:
    """Make a release, a release candidate of the next, a nightly; all need a triton."""
    wheel = write_torch(tmp_path, needs=["triton==3.6.0"])
    served.add_wheel(wheel)
    served.add_wheel(write_wheel(tmp_path, "triton", "3.6.0"))
    for version in ("2.11.1rc1", "2.12.0.dev20261128+cpu"):
        served.add_wheel(reversion(wheel, tmp_path, version, git_version=NEW_GIT))
    return tmp_path


@pytest.mark.programs
@pytest.mark.parametrize("as_html", [False, True])
@pytest.mark.parametrize("version", ["2.11.0", "2.11.1rc1", "2.12.0.dev20261128+cpu"])
def test_uv_resolves_from_metadata_alone(
    served: Served, torches: Path, environ: Mapping[str, str], as_html: bool, version: str
) -> None:
    served.as_html = as_html
    asked = requirement(torches, f"torch=={version}")
    done = compiled(environ, asked, "--default-index", served.url)
    assert done.stdout.split() == [f"torch=={version}", "triton==3.6.0"], done.stderr
    assert not [path for path, _ in served.asked if path.endswith(".whl")]


def final(url: str) -> PublishedFile:
    with closing(Index(url, tries=1)) as index:
        return next(file for file in index.files("torch") if file.version == "2.11.0")


def test_a_final_of_the_same_version_is_another_file(
    served: Served, torches: Path, environ: Mapping[str, str]
) -> None:
    """A release candidate carries the version of the release, on an index of its own."""
    with serving() as test_index:
        folder = torches / "test"
        folder.mkdir()
        candidate = write_torch(folder, git_version=NEW_GIT)
        test_index.add_wheel(candidate)
        ours, theirs = final(served.url), final(test_index.url)
        assert ours.filename == theirs.filename and ours.sha256 != theirs.sha256


def test_a_page_whose_file_changed(served: Served, torches: Path) -> None:
    index = Index(served.url, tries=1)
    before = {file.filename: file.sha256 for file in index.files("torch")}
    folder = torches / "changed"
    folder.mkdir()
    second = reversion(torches / _name("2.11.0"), folder, "2.11.1rc1", git_version="e" * 40)
    served.change(second)
    after = {file.filename: file.sha256 for file in index.files("torch")}
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == [second.name]
    index.close()


def test_a_login(served: Served, torches: Path, environ: Mapping[str, str]) -> None:
    served.login = ("me", "secret")
    asked = requirement(torches, "torch==2.11.1rc1")
    assert compiled(environ, asked, "--default-index", served.url).returncode != 0
    done = compiled(environ, asked, "--default-index", served.url_with_login)
    assert "torch==2.11.1rc1" in done.stdout, done.stderr
    assert None in served.users


def test_faults_of_a_file(served: Served, torches: Path) -> None:
    index = Index(served.url, tries=1)
    wheel = next(file for file in index.files("torch") if file.version == "2.11.1rc1")
    path = f"/files/{wheel.filename}"
    out = torches / "out"
    out.mkdir()
    for fault, message in ((404, "404"), ("half", "only"), (503, "503")):
        served.faults[path] = [fault]
        with pytest.raises(FetchError, match=message):
            index.fetch(wheel, out)
    served.faults[path] = [Slow(0.05)]
    assert index.fetch(wheel, out).read_bytes() == (torches / wheel.filename).read_bytes()
    served.withdraw(wheel.filename)
    assert wheel.filename not in {file.filename for file in index.files("torch")}
    served.add_wheel(torches / wheel.filename, hashes={"sha256": "0" * 64})
    wrong = next(file for file in index.files("torch") if file.version == "2.11.1rc1")
    with pytest.raises(FetchError, match="its sha256 is"):
        index.fetch(wrong, out)
    index.close()


def test_the_pages_without_a_client(served: Served, torches: Path) -> None:
    import requests

    root = requests.get(served.url, timeout=10, headers={"Accept": "text/html"})
    assert root.headers["Content-Type"] == "text/html" and 'href="triton/"' in root.text
    names = [
        row["name"]
        for row in requests.get(served.url, timeout=10, headers={"Accept": JSON}).json()["projects"]
    ]
    assert names == ["torch", "triton"]
    head = requests.head(f"{served.url[:-8]}/files/{_name('2.11.0')}", timeout=10)
    assert int(head.headers["Content-Length"]) == (torches / _name("2.11.0")).stat().st_size
    assert requests.get(f"{served.url}nobody/", timeout=10).status_code == 404


def test_the_command_serves_a_folder(torches: Path, environ: Mapping[str, str]) -> None:
    script = Path(__file__).parents[1] / "local_index.py"
    command = [sys.executable, str(script), str(torches), "--html"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            assert process.stdout is not None
            index = Index(process.stdout.readline().strip(), tries=1)
            assert len(index.files("torch")) == 3
            index.close()
        finally:
            process.terminate()


def _name(version: str) -> str:
    return f"torch-{version}-cp38-abi3-manylinux_2_28_x86_64.whl"
