"""What `matrix run` of several cells refuses in one line, before anything is built."""

from __future__ import annotations

import socket
import sys
import threading

import pytest

from command import matrix
from fake_tox import TORCH210, FakeTox

pytestmark = pytest.mark.programs

ROOM = ("--cores", "2", "--memory", "16000")
CANNOT = ["--torch", "2.10", "--vllm", "0.20", "--off-pin", "--platform", "cuda"]
"""Cells whose extensions do not link."""


def _is_about(line: str) -> bool:
    return any(text in line for text in ("no folder", "a cluster of Ray here", "joins the cluster"))


def refusals(fake: FakeTox, *arguments: str) -> str:
    ended = matrix(fake.here, "run", "--platform", "cpu", *ROOM, *arguments)
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    (line,) = (line for line in ended.stderr.splitlines() if not _is_about(line))
    assert fake.calls() == []
    return line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no cell is selected: name one"),
        (["py311-torch99"], "torch 9.9 is not known here"),
        (["py311-torch210", "-k", "moe"], "unrecognized arguments: -k moe"),
        (["--torch", "==9.9"], "--torch ==9.9: no known release matches"),
        (["--torch", "2.10", "--vllm", "0.28"], "no cell is selected"),
        (["--python", "3.12", "--vllm", "0.9", "--torch", "2.14"], "no cell is selected"),
        (["--new", "torch==9.9"], "no environment runs it"),
        ([TORCH210, "--cores", "0"], "needs 1 core, and 0 are available"),
        ([TORCH210, "--memory", "100"], "4096 MiB of memory, and 100 are available"),
        ([TORCH210, "--disk", "100"], "600 MiB of disk, and 100 are available"),
        ([TORCH210, "--records", "tox.ini"], "is not a folder; name one, new or of records"),
        ([TORCH210, "--records", "."], "is not a folder of records, it has 'fake_tox'"),
        (["--resume"], "no run in records/runs"),
        (["--resume", "20261129T000000Z"], "no run of this name"),
        ([TORCH210, "--resume"], f"leave out {TORCH210}"),
        (["--stale", "--resume"], "leave out --stale"),
        (["--resume", "--off-pin"], "leave out --off-pin"),
        (["--resume", "--force"], "leave out --force"),
        (["--resume", "--max-age", "3"], "leave out --max-age"),
        (["--resume", "--timeout", "60"], "leave out --timeout"),
        (["--resume", "--jobs", "2"], "leave out --jobs"),
        (["--resume", "--cell-gpus", "1"], "leave out --cell-gpus"),
        (["--resume", "--", "-k", "moe"], "leave out --"),
        ([TORCH210, "--cell-gpus", "2"], "--cell-gpus 2: is for cuda, and these cells run on cpu"),
        ([TORCH210, "--address", "auto"], "goes with --engine ray; add that"),
        ([TORCH210, "--here", "--address", "auto"], "in this environment; leave out --cores"),
        (CANNOT, "cannot work: py310-torch210-vllm020, py311-torch210-vllm020"),
    ],
)
def test_bad_input_is_one_line(fake_tox: FakeTox, arguments: list[str], said: str) -> None:
    assert said in refusals(fake_tox, *arguments)


@pytest.mark.parametrize("target", ["tox.ini", "/proc"])
def test_a_folder_that_takes_no_record_is_found_before_anything_is_built(
    fake_tox: FakeTox, target: str
) -> None:
    (fake_tox.here / "records").mkdir()
    (fake_tox.here / "records/cpu").symlink_to(fake_tox.here / target)
    line = refusals(fake_tox, TORCH210)
    assert "records/cpu: cannot be written: " in line and "another folder by --records" in line
    assert not (fake_tox.here / "records/runs").exists()


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "10.0.0.1:", ":6379", "head:ray", "head:70000", ""]
)
def test_an_address_without_a_host_or_a_port_is_refused(fake_tox: FakeTox, address: str) -> None:
    line = refusals(fake_tox, TORCH210, "--engine", "ray", f"--address={address}")
    assert "write host:port, or auto" in line


def test_an_address_where_nobody_listens_is_refused(fake_tox: FakeTox) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        line = refusals(fake_tox, TORCH210, "--engine", "ray", "--address", address)
    assert f"--address {address}: no cluster answers there (Connection refused)" in line


@pytest.mark.parametrize("answer", [b"HTTP/1.0 400 Bad Request\r\n\r\n", b""])
def test_what_listens_and_is_not_ray_is_refused(fake_tox: FakeTox, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            connection.recv(1)
            connection.sendall(answer)
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        line = refusals(fake_tox, TORCH210, "--engine", "ray", "--address", address)
        thread.join()
    assert f"--address {address}: no cluster answers there" in line


def test_without_ray_a_line_says_how_to_get_it(
    fake_tox: FakeTox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    line = refusals(fake_tox, TORCH210, "--engine", "ray")
    assert "pip install 'torch-vllm-matrix[ray]'" in line


def test_a_journal_that_is_not_ours_is_refused(fake_tox: FakeTox) -> None:
    folder = fake_tox.here / "records/runs/x"
    folder.mkdir(parents=True)
    for text in ("", "{}\n", '{"what": "begun", "schema": 99, "at": 0}\n', "\0\xff", "[" * 9999):
        (folder / "journal.jsonl").write_text(text)
        assert str(folder / "journal.jsonl").rpartition("records/")[2] in refusals(
            fake_tox, "--resume", "x"
        )
