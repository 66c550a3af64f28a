import json
import pwd
import re
import socket
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.record import provenance
from matrix.record.scrub import scrub
from matrix.record.startup_tests import STARTUP_TESTS_VERSION

STARTED = datetime(2026, 11, 22, 18, 0, 0, tzinfo=timezone.utc)

ROOTS_HOME = "/root"


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


def test_a_record_says_the_version_of_its_tests_and_their_commit(checkout: Path) -> None:
    found = provenance.provenance(checkout, STARTED, ["matrix"], "data")
    assert found["tests"] == {"commit": None, "version": STARTUP_TESTS_VERSION}
    git(checkout, "init")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "first")
    head = provenance.commit(checkout)
    (checkout / "matrix/inside/a.py").write_text("# changed")
    found = provenance.provenance(checkout, STARTED, ["matrix"], "data")
    assert found["tests"] == {"commit": f"{head}+changed", "version": STARTUP_TESTS_VERSION}


def test_the_commit_says_when_the_tests_differ_from_it(checkout: Path) -> None:
    assert provenance.commit(checkout) is None
    git(checkout, "init")
    assert provenance.commit(checkout) is None
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "first")
    head = provenance.commit(checkout)
    assert head is not None and len(head) == 40
    for name in ("README.md", "matrix/model.py"):
        (checkout / name).write_text("not watched")
    assert provenance.commit(checkout) == head
    (checkout / "tests/startup/t.py").write_text("changed")
    assert provenance.commit(checkout) == f"{head}+changed"


def test_a_copy_of_a_checkout_says_its_commit_and_whether_it_changed(tmp_path: Path) -> None:
    left_over = tmp_path / "tests" / "startup" / "__pycache__" / "test_a.cpython-311.pyc"
    left_over.parent.mkdir(parents=True)
    covered = tmp_path / "tests" / "startup" / "test_a.py"
    covered.write_text("x = 1\n")
    provenance.note_commit(tmp_path, "abc")
    left_over.write_bytes(b"left over")
    (covered.parent / ".test_a.py.swp").write_bytes(b"left over")
    (tmp_path / "README.md").write_text("not watched")
    assert provenance.commit(tmp_path) == "abc"
    covered.write_text("x = 2\n")
    assert provenance.commit(tmp_path) == "abc+changed"
    provenance.note_commit(tmp_path, "abc+changed")
    covered.write_text("x = 3\n")
    assert provenance.commit(tmp_path) == "abc+changed"


@pytest.mark.parametrize("noted", ["", "[]", "{}", '{"commit": 3, "watched": ""}'])
def test_a_note_that_says_nothing_is_no_commit(tmp_path: Path, noted: str) -> None:
    (tmp_path / "commit.json").write_text(noted)
    assert provenance.commit(tmp_path) is None
    provenance.note_commit(tmp_path, None)
    assert provenance.commit(tmp_path) is None


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
        (["matrix", "-o", "cache_dir=/home/ann/c"], "matrix -o cache_dir=~/c"),
        (["matrix", "-o", "cache_dir=/data/joe/c"], "matrix -o cache_dir=<path>/c"),
        (["matrix", "/home/ann", "~/", "/data/users/joe"], "matrix ~ ~ <user>"),
        (["matrix", "--at", "10.1.2.3:45", "--x=y_ann"], "matrix --at <address> --x=y_<user>"),
    ],
)
def test_the_command_has_no_folders_of_the_machine(argv: list[str], command: str) -> None:
    assert " ".join(provenance.command_of(argv, Path("/repo"), {"USER": "ann"})) == command


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('File "/repo/tests/startup/a.py", line 3', 'File "tests/startup/a.py", line 3'),
        ("/repo", ""),
        ("/repository/a", "<path>/a"),
        (f"no such file: '{ROOTS_HOME}/.cache/vllm'", "no such file: '~/.cache/vllm'"),
        ("/home/bob/.venv/lib/torch.so: bad", "~/.venv/lib/torch.so: bad"),
        ("in /Users/eve", "in ~"),
        ("/rooted stays, and so does a/b or 1/2", "/rooted stays, and so does a/b or 1/2"),
        ("/dev/shm/x stays", "/dev/shm/x stays"),
        ("/repo/.tox/py311/lib/x.py:3", ".tox/py311/lib/x.py:3"),
    ],
)
def test_scrub(text: str, clean: str) -> None:
    assert scrub(text, Path("/repo"), {"HOME": "/root"}) == clean


ANN = {"HOME": "/data/users/ann", "USER": "ann", "TMPDIR": "/scratch/ann/tmp"}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/tmp/torchinductor_ann/fx/a.py:3", "<tmp>/torchinductor_<user>/fx/a.py:3"),
        ("/tmp/torchinductor_joe/fx", "<tmp>/torchinductor_<user>/fx"),
        ("/tmp/pytest-of-ann/pytest-0", "<tmp>/pytest-of-<user>/pytest-0"),
        ("/scratch/ann/tmp/a/b", "<tmp>/a/b"),
        ("in torchinductor_ann and ../ann/x", "in torchinductor_<user> and ../<user>/x"),
        ("ann@node: /ann, ~ann", "<user>@node: /<user>, ~<user>"),
        ("/dev/shm/vllm_ann", "/dev/shm/vllm_<user>"),
        ("annex channel_anna /annual plan", "annex channel_anna /annual plan"),
        ("/data/users/ann/.cache/vllm", "~/.cache/vllm"),
        ("/data/users/joe", "<path>/<user>"),
        ("/data/users/joe/work/m.bin: bad", "<path>/m.bin: bad"),
        ("'/data/my work/joe/m.bin' is bad", "'<path>/m.bin' is bad"),
        ("'/a/b' and '/c/d'", "'<path>/b' and '<path>/d'"),
        ("PATH=/a/joe/bin:/b/joe/sbin", "PATH=<path>/bin:<path>/sbin"),
        ("g++ -I/opt/joe/include x", "g++ -I<path>/include x"),
        ("file:///data/joe/x", "file:<path>/x"),
        (
            "/data/joe/env/lib/python3.11/site-packages/vllm/a.py:7",
            "site-packages/vllm/a.py:7",
        ),
        ("~/v/lib/site-packages/torch/a.so", "site-packages/torch/a.so"),
        ("https://github.com/vllm-project/vllm", "https://github.com/vllm-project/vllm"),
        ("tcp://10.12.3.4:45123", "tcp://<address>"),
        ("tcp://10.12.3.4 or MASTER=10.12.3.4:1", "tcp://<address> or MASTER=<address>"),
        ("to 192.168.0.7, [fe80::1%eth0]:29500", "to <address>, <address>"),
        ("2.10.0+cu128 0.19.1 12.8.4.1 cublas==10.3.9.90:", None),
        ("1.2.3.4.5:6 aot_autograd.total: 3 v0.19.1:3", None),
    ],
)
def test_scrub_names_nobody(text: str, clean: str | None) -> None:
    assert scrub(text, Path("/repo"), ANN) == (text if clean is None else clean)


SECRETS = {
    "HF_TOKEN": "hf_abcdefghijklmnopqrstuvwx",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
    "UV_INDEX_HOUSE_PASSWORD": "correct horse",
    "PIP_INDEX_URL": "https://me:p4ssw0rd@index.example/simple",
    "UV_INDEX": "https://a:first0@one.example https://b:second@two.example",
    "UV_DEFAULT_INDEX": "https://0123456789abcdef@three.example/simple",
    "GIT_REMOTE": "https://builder@four.example/x",
    "TOKENIZERS_PARALLELISM": "false",
    "SSH_AUTH_SOCK": "/run/agent.sock",
}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("token hf_abcdefghijklmnopqrstuvwx is refused", "token <secret> is refused"),
        ("401 for hf_ZYXWVUTSRQPONMLKJIHGFEDC", "401 for <secret>"),
        ("key 'wJalrXUtnFEMI/K7MDENG'", "key '<secret>'"),
        ("with correct horse or p4ssw0rd", "with <secret> or <secret>"),
        ("https://me:p4ssw0rd@index.example/simple/x", "https://index.example/simple/x"),
        ("https://x:a@b@host/simple", "https://host/simple"),
        ("https://x:a/b@host/simple", "https://host/simple"),
        ("https://host:8080/simple@1", None),
        ("git+https://oauth2:tok@host/x.git@main", "git+https://host/x.git@main"),
        (
            "https://s3.example/a?X-Amz-Signature=ab12&X-Amz-Expires=60",
            "https://s3.example/a?X-Amz-Signature=<secret>&X-Amz-Expires=60",
        ),
        ("https://x.example/a?sv=1&sig=ab%2Fc&se=2", "https://x.example/a?sv=1&sig=<secret>&se=2"),
        ("https://x.example/a?private_token=ab", "https://x.example/a?private_token=<secret>"),
        ("first0 or second or 0123456789abcdef", "<secret> or <secret> or <secret>"),
        ("Authorization: token abc", "Authorization: token <secret>"),
        ("X-Api-Key: abc, PRIVATE-TOKEN: 'abc'", "X-Api-Key: <secret> PRIVATE-TOKEN: '<secret>'"),
        ("torch/_inductor/cpp_builder.py", None),
        ("{'Authorization': 'Bearer abc.def'}", "{'Authorization': 'Bearer <secret>'}"),
        ("ghp_012345678901234567890123456789012345", "<secret>"),
        ("AKIAIOSFODNN7EXAMPLE", "<secret>"),
        ("parallelism is false, key=3, a token", None),
        ("https://github.com/vllm-project/vllm/issues/1?key", None),
        ("sk-learn and hf_hub_download and test@example.org", None),
    ],
)
def test_scrub_takes_out_what_is_secret(text: str, clean: str | None) -> None:
    found = scrub(text, Path("/repo"), SECRETS)
    assert found == (text if clean is None else clean)
    assert scrub(found, Path("/repo"), SECRETS) == found


def test_the_command_has_no_secret() -> None:
    words = ["matrix", "run", "--index=https://me:p4ssw0rd@index.example/simple", "p4ssw0rd"]
    assert provenance.command_of(words, Path("/repo"), SECRETS) == [
        "matrix",
        "run",
        "--index=https://index.example/simple",
        "<secret>",
    ]


def test_the_account_is_a_user_too(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = pwd.struct_passwd(("zoe", "x", 1, 1, "", "/", ""))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: entry)
    assert scrub("x_zoe /zoe", Path("/r"), {}) == "x_<user> /<user>"

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert scrub("x_zoe /zoe", Path("/r"), {}) == "x_zoe /zoe"


def test_a_name_that_names_nobody_stays() -> None:
    text = "import vllm/engine of test_vllm in site-packages/vllm/a.py"
    assert scrub(text, Path("/r"), {"USER": "vllm"}) == text


PIECES = st.sampled_from(
    re.findall(
        r"\S+|\s",
        "/ // /repo /tmp /home/ann /data/users ann _ann joe - -I ~ ' \" : :// file: = , . ..\n"
        "< > ( ) <path> <user> <tmp> site-packages tcp:// 10.12.3.4 :45 [::1]:80 node-17 2.10 x",
    )
)


@given(st.lists(PIECES | st.text(max_size=3), max_size=14).map("".join))
def test_to_scrub_again_changes_nothing(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: "node-17.example")
        once = scrub(text, Path("/repo"), ANN)
        assert scrub(once, Path("/repo"), ANN) == once


@pytest.mark.timeout(100)
@pytest.mark.parametrize(
    "piece",
    [
        "/",
        "/a",
        "a",
        "/a=",
        "'/",
        "'/a ",
        "/a/site-packages",
        "1.",
        "[a:",
        "-I/",
        "_ann",
        "\n/a/b ",
    ],
)
def test_scrub_is_quick(piece: str) -> None:
    # Each takes less than a second; a pattern that begins again at each place takes minutes.
    text = (piece * (1 << 18))[: 1 << 18]
    scrub(text, Path("/repo"), ANN)


def test_scrub_takes_out_the_machines_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "node-17.example")
    assert scrub("[node-17.example]:2951 x", Path("/r"), {}) == "[this-host]:2951 x"
    text = "node-17 and events_NODE-17.corp.net, not node-170"
    clean = "this-host and events_this-host, not node-170"
    assert scrub(text, Path("/r"), {}) == clean
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    assert scrub("localhost:80", Path("/r"), {}) == "localhost:80"


def test_provenance_is_whole_and_names_nobody(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "node-17.example")
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd(("zoe", "", 1, 1, "", "", "")))
    argv = ["/home/zoe/bin/matrix", "run", "py311-torch210", "--records=/data/zoe", "/zoe/_zoe"]
    found = provenance.provenance(checkout, STARTED, argv, "data")
    assert found["started"] == "2026-11-22T18:00:00Z"
    assert found["command"] == [
        *("matrix", "run", "py311-torch210"),
        *("--records=<user>", "_<user>"),
    ]
    assert found["torch"] is None and found["gpu"] is None
    text = json.dumps(found)
    assert "node-17" not in text and str(checkout) not in text and "/home" not in text
    assert "zoe" not in text


def test_times_are_in_utc() -> None:
    elsewhere = STARTED.astimezone(timezone(timedelta(hours=9)))
    assert provenance.timestamp(elsewhere) == "2026-11-22T18:00:00Z"


def test_a_version_is_that_of_the_metadata() -> None:
    assert provenance.version_of("pytest") == pytest.__version__
    assert provenance.version_of("no-such-package-anywhere") is None
