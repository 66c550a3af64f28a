"""`matrix resolve`: real uv, real conflicts, small wheels, no network."""

import http.server
import json
import os
import stat
import sys
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from matrix import cli
from matrix.catalog.cells import Cell
from matrix.checks.resolution import resolve_cells, resolver
from matrix.checks.resolution.cache import (
    PLATFORM,
    Resolution,
    ResolverQuestion,
    load_resolutions,
)
from matrix.checks.resolution.lock import Target
from matrix.checks.resolution.resolver import ResolverError, ask, ask_all, run_program
from matrix.errors import MatrixError
from matrix.report.facts import facts_words
from small_index import (
    ABI3,
    FORCED,
    TODAY,
    asked,
    leave_settings,
    resolve,
    write_index,
    write_wheel,
)

pytestmark = pytest.mark.programs


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_settings(monkeypatch, tmp_path)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_index(monkeypatch, tmp_path)


def test_a_pair_that_resolves(index: Path) -> None:
    packages = {
        "torch": "2.10.0",
        "torchvision": "0.25.0",
        "torchaudio": "2.10.0",
        "triton": "3.6.0",
        "transformers": "5.23.0",
        "nvidia-cuda-runtime-cu12": "12.8.90",
    }
    cell = Cell("3.12", "2.10.0", "0.19.1")
    answer = asked("0.19.1")
    assert answer == Resolution(
        cell=cell, platform=PLATFORM, asked=TODAY, ok=True, count=8, packages=packages
    )
    assert answer.cuda == "12.8"


def test_off_the_pin_it_resolves_with_an_override_alone(index: Path) -> None:
    declared = asked("0.19.1", "2.11.0")
    assert (declared.ok, declared.cause) == (False, "conflict")
    assert (
        facts_words(declared.facts)
        == "vllm 0.19.1 needs torch==2.10.0, and torch==2.11.0 was asked for"
    )
    question = ResolverQuestion(cell=Cell("3.12", "2.11.0", "0.19.1"), override=FORCED)
    answer = ask(question, Target(python="3.12"), TODAY)
    assert answer.ok and answer.question == question
    assert {name: answer.packages[name] for name in FORCED} == FORCED


def test_a_demand_that_the_index_cannot_meet(index: Path) -> None:
    answer = asked("0.18.1")
    assert (answer.ok, answer.cause, answer.is_unknown) == (False, "not published", True)
    assert facts_words(answer.facts) == (
        "vllm 0.18.1 needs certifi>=2026.10.19, and the index has up to 2026.10.18"
    )


def test_no_wheel_for_an_older_glibc(index: Path) -> None:
    answer = asked("0.19.1", glibc="2.28")
    assert (answer.ok, answer.cause, answer.platform) == (
        False,
        "no wheel",
        "manylinux_2_28_x86_64",
    )
    assert facts_words(answer.facts) == "vllm 0.19.1 has no wheel for manylinux_2_28_x86_64"


def test_a_python_that_a_release_refuses(index: Path) -> None:
    write_wheel(index, "vllm", "0.20.0", ["torch==2.11.0"], python=">=3.13")
    answer = asked("0.20.0", "2.11.0")
    assert (answer.cause, facts_words(answer.facts)) == (
        "python",
        "vllm 0.20.0 needs Python >=3.13, not 3.12",
    )


def test_settings_for_other_work_change_no_answer(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("transformers==1.0\n")
    clean = asked("0.19.1")
    for name in ("UV_OVERRIDE", "UV_CONSTRAINT"):
        monkeypatch.setenv(name, str(other))
    monkeypatch.setenv("UV_EXCLUDE_NEWER", "2000-01-01")
    monkeypatch.setenv("UV_RESOLUTION", "lowest")
    monkeypatch.setenv("UV_PRERELEASE", "allow")
    write_wheel(index, "transformers", "5.99.0rc1")
    assert asked("0.19.1") == clean


def test_a_release_that_the_index_lacks_is_no_answer(index: Path) -> None:
    with pytest.raises(ResolverError, match=r"^the index has no vllm 0\.17\.1$"):
        asked("0.17.1")
    (index / "transformers-5.23.0-py3-none-any.whl").unlink()
    with pytest.raises(ResolverError, match=r"^the index has no transformers$"):
        asked("0.19.1")


def test_a_damaged_wheel_is_no_answer(index: Path) -> None:
    (index / f"vllm-0.19.1-{ABI3}.whl").write_bytes(b"PK half")
    with pytest.raises(ResolverError, match=r"vllm 0\.19\.1") as raised:
        asked("0.19.1")
    assert str(index) not in str(raised.value) and "\n" not in str(raised.value)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[http.server.BaseHTTPRequestHandler]]:
    """Give an index that answers everything with one status, or with no JSON."""

    class Handler(http.server.BaseHTTPRequestHandler):
        status = 404

        def do_GET(self) -> None:
            body = b"half {" if self.status == 200 else b""
            self.send_response(self.status)
            self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """uv may hang up before all is written."""

    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        port = running.server_address[1]
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://ann:secret@127.0.0.1:{port}/simple")
        yield Handler
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "the index has no "),
        (401, "401 Unauthorized"),
        (403, "403 Forbidden"),
        (429, "429 Too Many Requests"),
        (500, "500 Internal Server Error"),
        (200, "unexpected JSON"),
    ],
)
def test_an_index_that_fails_is_no_answer(
    server: type[http.server.BaseHTTPRequestHandler],
    status: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.status = status  # type: ignore[attr-defined]
    data = tmp_path / "r.json"
    assert resolve(data, "py312-torch210-vllm019") == 2
    output = capsys.readouterr().out
    assert "no answer: " in output and message in output
    assert "0 resolve, 0 do not, 1 without an answer" in output
    assert "127.0.0.1" not in output and "secret" not in output
    assert not data.exists()


def test_no_index_at_all_is_no_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ResolverError, match=r"Failed to fetch: (vllm|torch)"):
        asked("0.19.1")


def test_pips_index_is_carried_over(
    server: type[http.server.BaseHTTPRequestHandler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", os.environ["UV_DEFAULT_INDEX"])
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    server.status = 403  # type: ignore[attr-defined]
    with pytest.raises(ResolverError, match="403 Forbidden"):
        asked("0.19.1")


def fake_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = tmp_path / "bin" / "uv"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo torch==2.9.1; echo vllm==0.19.1", "uv answered with another torch than 2.10.0"),
        ("echo torch==2.10.0", "uv answered with another vllm than 0.19.1"),
        ("echo torch==nonsense; echo vllm==0.19.1", "Invalid version: 'nonsense'"),
        ("true", "the lock is empty"),
        ("printf '\\377\\376' >&2; exit 1", "\ufffd"),
        ("exit 3", "gave no reason"),
        ("echo 'error: No space left on device (os error 28)' >&2; exit 2", "No space left"),
    ],
)
def test_nonsense_of_uv_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    fake_uv(tmp_path, monkeypatch, script)
    with pytest.raises(ResolverError, match=message):
        asked("0.19.1")


def test_a_program_that_hangs_or_does_not_run() -> None:
    with pytest.raises(ResolverError, match=r"did not end within 0 s; is the index slow\?"):
        run_program([sys.executable, "-c", "import time; time.sleep(600)"], seconds=0.01)
    with pytest.raises(MatrixError, match="/nowhere/uv: does not run"):
        run_program(["/nowhere/uv"])


def test_each_question_is_answered_and_a_fault_stops_none(index: Path) -> None:
    cells = [Cell("3.12", "2.10.0", version) for version in ("0.19.1", "0.17.1", "0.18.1")]
    every = list(
        ask_all((ResolverQuestion(cell=cell) for cell in cells), "x86_64", "2.35", 2, TODAY)
    )
    answers = {timed.question.cell.vllm: timed.answer for timed in every}
    assert isinstance(answers["0.17.1"], ResolverError)
    assert [getattr(answers[version], "ok", None) for version in ("0.19.1", "0.18.1")] == [
        True,
        False,
    ]
    assert all(timed.seconds > 0 for timed in every)


RESOLVES = "resolves: 8 packages (torchvision 0.25.0, torchaudio 2.10.0, triton 3.6.0, transformers"


def test_what_is_known_is_not_asked_again(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "r.json"
    write_wheel(index, "vllm", "0.18.1", ["torch==2.10.0", "triton==3.5.1"], tag=ABI3)
    cells = ("py312-torch210-vllm019", "py312-torch210-vllm018")
    assert resolve(data, *cells) == 0
    output = capsys.readouterr().out
    assert "[1/2] " in output and "[2/2] " in output
    assert RESOLVES in output and "does not resolve: " in output and "triton==3.5.1" in output
    assert "matrix: 1 resolve, 1 do not; 2 asked in " in output
    before = data.read_bytes()

    def never(*_: object) -> Iterator[object]:
        raise AssertionError("asked again")

    with monkeypatch.context() as patch:
        patch.setattr(resolve_cells, "ask_all", never)
        assert resolve(data, *cells, today=date(2027, 1, 1)) == 0
    output = capsys.readouterr().out
    told = f"declared  {RESOLVES} 5.23.0); for {PLATFORM}, CUDA 12.8; asked on 2026-11-23\n"
    assert told in output
    assert output.endswith("matrix: 1 resolve, 1 do not; 2 known before\n")
    assert data.read_bytes() == before

    assert resolve(data, cells[0], "--refresh", today=date(2026, 12, 1)) == 0
    rows = {row.cell.vllm: row.asked for row in load_resolutions(data).rows}
    assert rows == {"0.19.1": date(2026, 12, 1), "0.18.1": TODAY}

    assert resolve(data, "--stale", "5", today=date(2026, 12, 2)) == 0
    rows = {row.cell.vllm: row.asked for row in load_resolutions(data).rows}
    assert rows == {"0.19.1": date(2026, 12, 1), "0.18.1": date(2026, 12, 2)}
    assert resolve(data, "--stale", "5", today=date(2026, 12, 3)) == 2
    assert "no answer is older than 5 days" in capsys.readouterr().err


def test_what_the_index_lacks_is_kept_for_a_day_and_asked_again(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, cell = tmp_path / "r.json", "py312-torch210-vllm018"
    assert resolve(data, cell) == 0
    out = capsys.readouterr().out
    assert "not known yet: vllm 0.18.1 needs certifi>=2026.10.19, and the index has up to" in out
    assert "matrix: 0 resolve, 0 do not, 1 not known yet; 1 asked in " in out
    assert [row["cause"] for row in json.loads(data.read_text())["resolutions"]] == [
        "not published"
    ]
    assert resolve(data, cell) == 0
    assert "; asked on 2026-11-23\n" in capsys.readouterr().out
    # The next day it is asked again, also where other answers are young enough.
    write_wheel(index, "certifi", "2026.10.19")
    tomorrow = date(2026, 11, 24)
    assert resolve(data, "--stale", "30", today=tomorrow) == 0
    (row,) = load_resolutions(data).rows
    assert (row.ok, row.asked) == (True, tomorrow)
    assert resolve(data, "--stale", "30", today=date(2026, 11, 25)) == 2


def test_without_being_told_it_asks_again_after_a_day(index: Path, tmp_path: Path) -> None:
    data, cell = tmp_path / "r.json", "py312-torch210-vllm018"
    assert resolve(data, cell) == 0
    assert resolve(data, cell, today=date(2026, 11, 24)) == 0
    assert [row.asked.day for row in load_resolutions(data).rows] == [24]


def test_what_was_answered_is_kept_where_the_rest_is_interrupted(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = resolver.ask
    began: list[str] = []

    def ask_once(question: ResolverQuestion, target: Target, today: date) -> Resolution:
        began.append(question.cell.vllm)
        if len(began) > 1:
            raise KeyboardInterrupt
        return real(question, target, today)

    monkeypatch.setattr(resolver, "ask", ask_once)
    data = tmp_path / "r.json"
    cells = [f"py312-torch210-vllm0{minor}" for minor in (19, 18, 17)]
    assert resolve(data, *cells, "--jobs", "1") == 130
    assert [row.cell.vllm for row in load_resolutions(data).rows] == ["0.19.1"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_pins_and_what_is_off_them(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "r.json"
    assert resolve(data, "--all-pins", "--python", "3.12", "--vllm", ">=0.18,<0.20") == 0
    off = ("--off-pin", "--python", "3.12", "--torch", "2.9")  # which implies --override
    assert resolve(data, *off, "--vllm", "0.19") == 0
    rows = [(row.cell.torch, row.cell.vllm, row.ok) for row in load_resolutions(data).rows]
    assert rows == [
        ("2.9.1", "0.19.1", True),
        ("2.10.0", "0.18.1", False),
        ("2.10.0", "0.19.1", True),
    ]
    forced = load_resolutions(data).rows[0].override
    assert forced == {"torch": "2.9.1", "torchvision": "0.24.1", "torchaudio": "2.9.1"}
    assert "py312-torch29-vllm019    torch 2.9.1  vLLM 0.19.1 override" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no cell to ask about; name one"),
        (["py312-torch299-vllm019"], "torch 2.99 is not known here"),
        (["--all-pins", "--python", "312"], "--python '312': write it as 3.12"),
        (["--all-pins", "--torch", "new"], "--torch 'new': is neither a release nor a specifier"),
        (["--all-pins", "--glibc", "2"], "--glibc '2': write it as 2.35"),
        (
            ["--all-pins", "--glibc", "2.12"],
            "--glibc: glibc 2.12: uv supports none that old; name 2.17 or newer",
        ),
        (["--all-pins", "--machine", "a b"], "--machine 'a b': write it as x86_64"),
        (["--stale"], "no answer is older than 30 days"),
    ],
)
def test_a_bad_wish_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "r.json"
    assert cli.main(["resolve", *arguments, "--data", str(data)]) == 2
    output = capsys.readouterr()
    assert output.out == "" and message in output.err and output.err.count("\n") == 1
    assert not data.exists()


@pytest.mark.parametrize("jobs", ["0", "many", "-1"])
def test_a_bad_number_of_jobs(jobs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["resolve", "--all-pins", "--jobs", jobs]) == 2
    assert "is not a number from 1 to 64" in capsys.readouterr().err


def test_a_bad_file_is_named_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "r.json"
    data.write_text(json.dumps({"resolutions": [{"vllm": "0.19.1"}]}))
    before = data.read_bytes()
    monkeypatch.setattr(resolve_cells, "ask_all", None)
    assert cli.main(["resolve", "py312-torch210-vllm019", "--data", str(data)]) == 2
    assert f"matrix: {data}: resolutions 1: asked: is missing" in capsys.readouterr().err
    assert data.read_bytes() == before


def test_without_uv_one_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    data = tmp_path / "r.json"
    assert cli.main(["resolve", "py312-torch210-vllm019", "--data", str(data)]) == 2
    assert "pip install uv" in capsys.readouterr().err
