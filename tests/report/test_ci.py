"""`matrix ci` on GitHub and Buildkite: groups of one defect, summaries and annotations."""

import json
import re
import stat
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_tables import TABLE, failed, make, passed, table
from command import matrix
from matrix.record.model import (
    Case,
    ErrorKind,
    Outcome,
    RunError,
    Rung,
    RungResult,
)
from matrix.record.reader import read
from matrix.record.writer import write
from matrix.report import ci
from matrix.report.ci_services import FORMATS, CiError, service, tell
from matrix.report.model import Report
from matrix.verdict.table import Table

ROOT = Path(__file__).parents[2]
SIGNATURE = "KeyError: 'x' of pid <pid> @ vllm/config.py:load"
HOSTILE = [
    "<script>alert(1)</script></pre></details>",
    "a | b || c \\| d",
    "`code` ``` ~~~",
    "line\nbreak\r\n# heading\n::error::owned\n##[error]owned",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x00\x07\x08\x9b31m",
    "[link](javascript:alert(1)) ![image](http://evil.example/x.png) @everyone",
    "100 %0A::warning::x",
    "::stop-commands::token\n  ::add-mask::torch\n\t::error::x ##[add-mask]torch",
    "]]> &amp; \ufffe\uffff\ud800",
    "\u202eright to left\u2066 \u200bzero",
]


def test_one_defect_is_one_group() -> None:
    output = [(item.verdict, item.signature, item.title) for item in ci.groups(TABLE)]
    assert output == [
        ("incompatible", SIGNATURE, "incompatible at starts cold: 3 cases of 2 cells"),
        (
            "incompatible",
            "ImportError: _C.abi3.so: undefined symbol: y",
            "incompatible at imports: 1 cell",
        ),
        (
            "drift",
            "cold num_compiled_artifacts_saved is 1, expected 3, and 1 more",
            "drift: 1 case of 1 cell",
        ),
        ("untested", "no GPU is visible", "untested: 1 cell"),
    ]
    first = ci.groups(TABLE)[0]
    assert [
        (entry.record.cell, [item.name for item in faults]) for entry, faults in first.cells
    ] == [
        ("py311-torch210-vllm019", ["moe[1]", "moe[2]"]),
        ("py312-torch210-vllm019", ["moe[1]"]),
    ]


def test_a_failure_of_this_machine_is_told_by_its_reason() -> None:
    error = RunError(kind=ErrorKind.NO_SPACE, reason="the disk is full")
    output = ci.groups(table(make("py311-torch210-vllm019", failed(), error=error)))
    assert [(item.verdict, item.signature) for item in output] == [("untested", "the disk is full")]


def test_the_summary_has_what_a_person_needs() -> None:
    output = ci.summary(TABLE)
    assert output.startswith("# torch × vLLM: 4 of 6 cells not as expected\n")
    assert (
        "cuda: 1 cell (1 untested); cpu: 5 cells (1 compatible, 1 drift, 3 incompatible)" in output
    )
    assert "### ❌ incompatible at starts cold: 3 cases of 2 cells\n\n**KeyError: 'x' of" in output
    assert "- `py311-torch210-vllm019` on cpu: `moe[1]`, `moe[2]`\n" in output
    assert "  File &quot;/x/site-packages/vllm/config.py&quot;, line 7, in load\n" in output
    assert "^^^" not in output
    assert "| vLLM ↓ torch → | 2.9 | 2.10 | 2.11 |" in output
    mark = "drift, 1 case recompiles warm (no public issue known)"
    assert f"| `py311-torch29-vllm016` | cpu | {mark} | small\\[a\\]: cold num" in output
    assert output.count("<details>") == output.count("</details>") == 1


def test_a_summary_of_what_is_compatible_says_so() -> None:
    well = table(make("py311-torch210-vllm019", passed()))
    assert ci.summary(well).startswith("# torch × vLLM: 0 of 1 cell not as expected\n")
    assert "###" not in ci.summary(well)
    assert ci.commands(well) == ""
    assert ci.style(well) == "success"


def test_the_summary_counts_a_cell_of_two_platforms_once() -> None:
    both = table(
        make("py311-torch210-vllm019", failed(), platform="cuda"),
        make("py311-torch210-vllm019", failed(), platform="cpu"),
        make("py312-torch210-vllm019", passed(), platform="cpu"),
    )
    assert ci.summary(both).startswith("# torch × vLLM: 1 of 2 cells not as expected\n")
    assert [group.title for group in ci.groups(both)] == [
        "incompatible at starts cold: 2 cases of 1 cell"
    ]


@pytest.mark.parametrize("limit", [0, 10, 100, 300, 1500, 4000, 10**6])
def test_a_summary_ends_at_its_limit(limit: int) -> None:
    whole, output = ci.summary(TABLE), ci.summary(TABLE, limit)
    assert len(output.encode()) <= limit
    assert output == whole if limit >= len(whole.encode()) else "###" in output or limit < 1500
    if 100 <= limit < len(whole.encode()):
        assert output.endswith(f"*The rest was left out: a summary has at most {limit} bytes.*\n")


def test_a_megabyte_of_failures_is_cut() -> None:
    cases = [
        failed(
            f"moe[{index}]",
            reason=f"KeyError: a{index}b",
            failure=f"{'y' * 400}\n" * 40 + f"E: {index}b",
        )
        for index in range(200)
    ]
    output = ci.summary(table(make("py311-torch210-vllm019", *cases)))
    assert 0.9 * ci.SUMMARY_LIMIT < len(output.encode()) <= ci.SUMMARY_LIMIT
    assert "*The rest was left out" in output


def test_annotations_are_at_most_ten_of_a_level() -> None:
    cases = [
        failed(f"moe[{index}]", reason=f"KeyError: a{index}b", failure=None) for index in range(13)
    ]
    lines = ci.commands(table(make("py311-torch210-vllm019", *cases))).splitlines()
    assert len(lines) == 10
    more = "4 more of this kind"
    assert lines[-1] == f"::error title=incompatible%3A {more}::{more}: see the job's summary"
    lines = ci.commands(table(make("py311-torch210-vllm019", *cases[:10]))).splitlines()
    assert len(lines) == 10
    assert "more" not in lines[-1]


def test_a_defect_of_many_cells_names_the_first() -> None:
    names = [
        f"py3{python}-torch{torch}-vllm0{vllm}"
        for python in (10, 11, 12)
        for torch in (29, 210, 211)
        for vllm in (16, 17, 18, 19, 20, 26)
    ]
    many = table(*(make(name, failed()) for name in names))
    (group,) = ci.groups(many)
    assert group.title == "incompatible at starts cold: 54 cases of 54 cells"
    assert "\n- and 4 more\n" in ci.summary(many)
    (line,) = ci.commands(many).splitlines()
    assert line.endswith(" on cpu%0Aand 4 more") and line.count("%0A") == 51


def test_annotations_say_what_fails_where() -> None:
    lines = ci.commands(TABLE).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::error", "::warning", "::notice"]
    assert lines[0] == (
        "::error title=incompatible at starts cold%3A 3 cases of 2 cells::"
        f"{SIGNATURE}%0Apy311-torch210-vllm019 on cpu%0Apy312-torch210-vllm019 on cpu"
    )


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        ([make("py311-torch210-vllm019", passed(), failed())], "error"),
        ([make("py311-torch210-vllm019", passed(saved=1))], "warning"),
        ([make("py311-torch210-vllm019", passed()), make("py311-torch29-vllm016")], "info"),
    ],
)
def test_the_style_is_the_worst_verdicts(records: list[Any], wanted: str) -> None:
    assert ci.style(table(*records)) == wanted


def hostile(message: str) -> Table:
    provenance = {
        "started": "2026-11-22T18:00:00Z",
        "python": message,
        "torch": message,
        "vllm": message,
    }
    return table(
        make(
            "py311-torch210-vllm019",
            failed(message or "x", reason=message, failure=f"{message}\n{message}"),
            Case(case=f"x{message}", outcome=Outcome.NOT_APPLICABLE, reason=message),
            provenance=provenance,
        ),
        make("py311-torch29-vllm016", error=RunError(kind=ErrorKind.INTERRUPTED, reason=message)),
        make(
            "py312-torch29-vllm016",
            rungs=(RungResult(rung=Rung.IMPORTS, ok=False, seconds=1.0, reason=message),),
        ),
    )


def calm(message: str) -> None:
    odd = hostile(message)
    output = ci.summary(odd)
    output.encode()
    tags = re.findall(r"<[^>]*>", output)
    assert set(tags) <= {"<details>", "<summary>", "</summary>", "<pre>", "</pre>", "</details>"}
    assert output.count("<") == output.count(">") == len(tags)
    outside = re.sub(r"<details>.*?</details>", "", output, flags=re.DOTALL)
    assert not re.search(r"://|www\.|(?<!\\)\]\(|@", re.sub(r"`[^`\n]*`", "", outside))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2066]", output)
    for line in ci.commands(odd).splitlines():
        assert re.fullmatch(r"::(error|warning|notice) title=[^:,]*::.*", line)
        assert not re.search(r"%(?!25|0A|0D|3A|2C)", line)
    for line in f"{output}\n{ci.junit(odd)}".splitlines():
        assert not re.match(r"\s*::(error|warning|add-mask|stop-commands)\b", line)
        assert "##[" not in line
    root = ET.fromstring(ci.junit(odd).encode())
    assert [suite.attrib["tests"] for suite in root] == ["1", "1", "2"]


@pytest.mark.parametrize("message", HOSTILE)
def test_hostile_text_is_text(message: str) -> None:
    calm(message)


@settings(deadline=None)
@given(st.text(max_size=40) | st.text("<>|`\\*_[]()#~$&@!:%,\n\r\x1b[0;m/w.", max_size=40))
def test_any_text_is_text(message: str) -> None:
    calm(message)


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [({"GITHUB_ACTIONS": "true"}, "github"), ({"BUILDKITE": "true"}, "buildkite")],
)
def test_a_service_is_known_by_its_variable(environ: dict[str, str], wanted: str) -> None:
    assert service({"PATH": "x", **environ}) == wanted
    with pytest.raises(CiError, match="name one by --format github or buildkite or junit"):
        service(dict.fromkeys(environ, "false"))


def test_github_reads_its_summary_where_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = tmp_path / "summary.md"
    step.write_text("said before\n", encoding="utf-8")
    tell(TABLE, "github", None, {"GITHUB_STEP_SUMMARY": str(step)})
    assert step.read_text(encoding="utf-8") == f"said before\n{ci.summary(TABLE)}"
    assert capsys.readouterr().out == ci.commands(TABLE)
    step.write_bytes(b"x" * (ci.SUMMARY_LIMIT - 1000))
    tell(TABLE, "github", None, {"GITHUB_STEP_SUMMARY": str(step)})
    assert ci.SUMMARY_LIMIT - 1000 < step.stat().st_size <= ci.SUMMARY_LIMIT
    tell(TABLE, "github", None, {"GITHUB_STEP_SUMMARY": ""})
    assert capsys.readouterr().out.endswith(f"{ci.summary(TABLE)}\n{ci.commands(TABLE)}")
    tell(TABLE, "github", tmp_path / "new" / "it.md", {"GITHUB_STEP_SUMMARY": str(step)})
    assert (tmp_path / "new" / "it.md").read_text(encoding="utf-8") == ci.summary(TABLE)


def agent(folder: Path, status: int) -> None:
    script = folder / "buildkite-agent"
    script.write_text(
        f"#!{sys.executable}\nimport sys, pathlib\n"
        f"pathlib.Path({str(folder / 'told')!r}).write_text(\n"
        "    ' '.join(sys.argv[1:]) + '\\n' + sys.stdin.buffer.read().decode(), encoding='utf-8')\n"
        f"print('no such job', file=sys.stderr)\nsys.exit({status})\n",
        encoding="utf-8",
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


def test_buildkites_agent_is_told_with_a_style(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    tell(TABLE, "buildkite", None, {})
    assert capsys.readouterr().out == ci.summary(TABLE)
    agent(tmp_path, 0)
    tell(TABLE, "buildkite", None, {})
    first, _, text = (tmp_path / "told").read_text(encoding="utf-8").partition("\n")
    assert first == "annotate --style error --context torch-vllm-matrix"
    assert text == ci.summary(TABLE)
    assert capsys.readouterr().out == ""
    agent(tmp_path, 3)
    with pytest.raises(CiError, match="buildkite-agent: ended with exit status 3: no such job"):
        tell(TABLE, "buildkite", None, {})
    tell(TABLE, "buildkite", tmp_path / "it.md", {})
    assert (tmp_path / "it.md").read_text(encoding="utf-8") == ci.summary(TABLE)


@pytest.fixture(autouse=True)
def no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the CI service under which the tests may run."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "BUILDKITE"):
        monkeypatch.delenv(name, raising=False)


def published(folder: Path, *cases: Case) -> None:
    """Write a record as a run writes it, with these cases."""
    name = "py311-torch210-vllm019.json"
    whole = read(ROOT / "results" / "cpu" / name)
    write(replace(whole, cases=cases or whole.cases), folder / "records" / name)


def test_the_command_tells_a_service(tmp_path: Path) -> None:
    published(tmp_path, failed())
    summary = tmp_path / "summary.md"
    done = matrix(tmp_path, "ci", GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("::error title=incompatible at starts cold%3A 1 case of 1 cell::")
    assert "# torch × vLLM: 1 of 1 cell" in summary.read_text(encoding="utf-8")
    done = matrix(tmp_path, "ci", "--format", "junit", "records", "--out", "it.xml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert ET.parse(tmp_path / "it.xml").getroot().attrib["failures"] == "1"


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    published(tmp_path)
    done = matrix(tmp_path, "ci", BUILDKITE="")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("matrix: no CI service is known here; name one by --format")
    done = matrix(tmp_path, "ci", "--format", "junit", "nowhere")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (tmp_path / "records" / "py311-torch29-vllm016.json").write_text("{", encoding="utf-8")
    done = matrix(tmp_path, "ci", "--format", "junit")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert ET.fromstring(done.stdout.encode()).attrib["tests"] == "9"
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = matrix(tmp_path, "ci", "--format", "junit", "--out", "file/it.xml")
    assert done.returncode == 2 and "file/" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_table_for_programs_has_todays_signature() -> None:
    from matrix.report import table_json

    path, record = make("py311-torch210-vllm019", failed(signature="of old"))
    content = json.loads(table_json.render(Report(table=table((path, record)))))
    assert content["cells"][0]["cases"][0]["signature"] == SIGNATURE


def test_the_forms_are_those_of_the_command_line() -> None:
    page = (ROOT / "docs" / "how-to" / "ci.md").read_text(encoding="utf-8")
    assert f"matrix ci --format {'|'.join(FORMATS)}" in page
