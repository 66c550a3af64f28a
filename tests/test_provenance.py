import getpass
import json
import socket
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from matrix import provenance

STARTED = datetime(2026, 11, 22, 18, 0, 0, tzinfo=timezone.utc)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    for name in ("matrix/inside/a.py", "matrix/data/models/m/config.json", "tests/startup/t.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def test_the_fingerprint_follows_what_runs_inside_a_cell(checkout: Path) -> None:
    first = provenance.fingerprint(checkout)
    assert first.startswith("sha256:") and len(first) == len("sha256:") + 64
    assert provenance.fingerprint(checkout) == first
    (checkout / "matrix/verdicts.py").write_text("judges, does not run inside")
    (checkout / "tests/startup/__pycache__").mkdir()
    (checkout / "tests/startup/__pycache__/t.cpython-311.pyc").write_bytes(b"left over")
    (checkout / "tests/startup/.t.py.swp").write_bytes(b"left over")
    assert provenance.fingerprint(checkout) == first
    seen = {first}
    (checkout / "tests/startup/t.py").write_text("other")
    seen.add(provenance.fingerprint(checkout))
    (checkout / "matrix/inside/a.py").rename(checkout / "matrix/inside/b.py")
    seen.add(provenance.fingerprint(checkout))
    (checkout / "matrix/data/models/m/more.json").write_text("")
    seen.add(provenance.fingerprint(checkout))
    assert len(seen) == 4


def test_the_fingerprint_of_nothing_is_one_too(tmp_path: Path) -> None:
    assert provenance.fingerprint(tmp_path).startswith("sha256:")


def test_the_commit_says_when_the_tests_differ_from_it(checkout: Path) -> None:
    assert provenance.commit(checkout) is None
    git(checkout, "init")
    assert provenance.commit(checkout) is None
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "first")
    head = provenance.commit(checkout)
    assert head is not None and len(head) == 40
    (checkout / "README.md").write_text("not covered")
    assert provenance.commit(checkout) == head
    (checkout / "tests/startup/t.py").write_text("changed")
    assert provenance.commit(checkout) == f"{head}+changed"


def test_a_folder_in_somebody_elses_checkout_has_no_commit(checkout: Path) -> None:
    git(checkout, "init")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "first")
    assert provenance.commit(checkout / "tests") is None


def test_no_commit_where_there_is_no_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert provenance.commit(checkout) is None


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/home/ann/.venv/bin/matrix", "run", "py311-torch210"], "matrix run py311-torch210"),
        (["/repo/matrix/__main__.py", "run", "-k", "moe"], "matrix run -k moe"),
        (["matrix", "--records", "/repo/records"], "matrix --records records"),
        (["matrix", "--records=/home/ann/out"], "matrix --records=out"),
        (["matrix", "~/out", "-k", "a/b or c"], "matrix out -k a/b or c"),
        (["matrix", "/", "--timeout=5", "--"], "matrix / --timeout=5 --"),
    ],
)
def test_the_command_has_no_folders_of_the_machine(argv: list[str], command: str) -> None:
    assert " ".join(provenance.command_of(argv, Path("/repo"))) == command


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('File "/repo/tests/startup/a.py", line 3', 'File "tests/startup/a.py", line 3'),
        ("/repo", ""),
        ("/repository/a", "/repository/a"),
        ("no such file: '/root/.cache/vllm'", "no such file: '~/.cache/vllm'"),
        ("/home/bob/.venv/lib/torch.so: bad", "~/.venv/lib/torch.so: bad"),
        ("in /Users/eve", "in ~"),
        ("/data/home/x stays, and so does /rooted", "/data/home/x stays, and so does /rooted"),
        ("/repo/.tox/py311/lib/x.py:3", ".tox/py311/lib/x.py:3"),
    ],
)
def test_scrub(text: str, clean: str) -> None:
    assert provenance.scrub(text, Path("/repo"), {"HOME": "/root"}) == clean


def test_scrub_takes_out_the_machines_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "node-17.example")
    assert provenance.scrub("[node-17.example]:2951 x", Path("/r"), {}) == "[this-host]:2951 x"
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    assert provenance.scrub("localhost:80", Path("/r"), {}) == "localhost:80"


def test_provenance_is_whole_and_names_nobody(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "node-17.example")
    argv = ["/home/ann/bin/matrix", "run", "py311-torch210"]
    found = provenance.provenance(checkout, STARTED, argv, "data")
    assert found["started"] == "2026-11-22T18:00:00Z"
    assert found["command"] == ["matrix", "run", "py311-torch210"]
    assert found["torch"] is None and found["gpu"] is None
    text = json.dumps(found)
    assert "node-17" not in text and str(checkout) not in text and "/home" not in text
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in text


def test_times_are_in_utc() -> None:
    elsewhere = STARTED.astimezone(timezone(timedelta(hours=9)))
    assert provenance.timestamp(elsewhere) == "2026-11-22T18:00:00Z"


def test_packages_are_those_installed() -> None:
    found = provenance.packages()
    assert found["pytest"] == pytest.__version__
    assert list(found) == sorted(found)
    assert provenance.version_of("pytest") == pytest.__version__
    assert provenance.version_of("no-such-package-anywhere") is None
