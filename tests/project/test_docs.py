"""The documents against the sources: the picture of the rooms, paths, links, words in order."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / "docs").rglob("*.md"),
    *ROOT.glob("*.md"),
    ROOT / "changelog.d" / "README.md",
]
README_LINES = 150  # what a person reads before they try it
HOLDERS = ("benchmarks", "docs", "matrix", "results", "scripts", "tests")


def is_there(path: Path) -> bool:
    # `tox -e docs` makes the reference, and Sphinx refuses links that it lacks.
    made = ROOT / "docs" / "reference"
    return path.exists() or (not made.exists() and made in path.resolve().parents)


def layers() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return list(project["tool"]["importlinter"]["contracts"][0]["layers"])


def draw(root: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "scripts/rooms.py", "--check"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_picture_is_that_of_the_sources_and_another_import_another_one(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ("docs/architecture.md", "scripts/rooms.py"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(ROOT / name, tmp_path / name)
    for path in (ROOT / "matrix").rglob("*.py"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    done = draw(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "matrix" / "errors.py").open("a") as file:
        file.write("import matrix.cli\n")
    done = draw(tmp_path)
    assert done.returncode == 1
    assert "run scripts/rooms.py" in done.stdout


def test_the_table_of_rooms_has_each_in_its_order() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("| room |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == layers()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = re.findall(rf"`((?:{'|'.join(HOLDERS)})/[\w./-]+)`", text)
    # NAME is to be replaced.
    assert [path for path in paths if not (ROOT / path).exists() and "NAME" not in path] == []
    links = re.findall(r"\]\(((?!https?://)[^)#]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if not is_there(page.parent / link)] == []


def test_the_readme_fits() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= README_LINES


def test_the_glossary_is_in_order_and_says_each_word_once() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\*\*(.+)\*\*\n: ", text, re.MULTILINE)
    assert len(words) > 60
    assert words == sorted(set(words), key=str.lower)
    assert text.count("\n**") == len(words)
    named = re.findall(r"`(\w+)` in\s+`([\w/]+\.py)`", text)
    assert len(named) >= 4
    for name, path in named:
        assert f"class {name}" in (ROOT / path).read_text(encoding="utf-8")


def test_each_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    files = sorted(path.name for path in folder.glob("0*.md"))
    listed = re.findall(r"\]\((0[\w-]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert listed == files
    for number, name in enumerate(files, 1):
        page = (folder / name).read_text(encoding="utf-8")
        assert page.startswith(f"# {number:04}: ")
        heads = re.findall(r"^## (\w+)$", page, re.MULTILINE)
        assert heads == ["Context", "Decision", "Consequences"]
