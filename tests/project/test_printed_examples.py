"""The printed examples of README and the guide: each is made by its command, from data alone."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = runpy.run_path(str(ROOT / "scripts" / "examples.py"))
run: Callable[..., str] = EXAMPLES["run"]
console: Callable[..., None] = EXAMPLES["console"]

PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
}
MADE = re.compile(
    r"^<!-- \[\[\[cog\n.*?^\]\]\] -->\n(.*?)^<!-- \[\[\[end\]\]\] -->$", re.MULTILINE | re.DOTALL
)


def printed(text: str) -> list[str]:
    """Return the commands that are shown with their output: a prompt stands before them."""
    return re.findall(r"^\s*\$ (.+)$", text, re.MULTILINE)


@pytest.mark.parametrize("name", PAGES)
def test_each_output_is_made_by_its_command(name: str) -> None:
    text = PAGES[name]
    made = [command for block in MADE.findall(text) for command in printed(block)]
    assert made == printed(text)
    assert text.count("[[[cog") == text.count("[[[end]]]") == len(made)
    assert all(command.startswith("matrix ") for command in made)


def test_the_examples_are_more_than_a_few() -> None:
    assert len([command for text in PAGES.values() for command in printed(text)]) >= 15


def test_the_readme_fits() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 150


def test_an_example_has_the_output_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    console("matrix --version | tr a-z A-Z")
    version = run("matrix --version")
    assert capsys.readouterr().out == (
        f"```console\n$ matrix --version | tr a-z A-Z\n{version.upper()}```\n"
    )


def test_a_command_that_ends_otherwise_makes_no_example() -> None:
    with pytest.raises(RuntimeError, match="exit status 2, not 0"):
        run("matrix show missing.json")
    assert "missing.json" in run("matrix show missing.json", status=2)


def test_an_example_sees_what_is_published_alone() -> None:
    assert set(run("ls").split()) == {
        "matrix", "pyproject.toml", "results", "tests", "tox.ini", "toxfile.py",
    }  # fmt: skip
    assert "no candidate in none.toml" in run("matrix candidate list")
    made_up = run("matrix candidate list", candidates="docs/examples/candidates.toml")
    assert "torch216rc1" in made_up
