"""Two calls of tox work side by side, though tox holds a lock on the tox that it installs."""

import json
import sys
from pathlib import Path

import pytest

from matrix.run.own_tox import unlocked

TOX = [sys.executable, "-m", "tox"]
PYTHON = "python{}.{}".format(*sys.version_info)
# Nobody has it: the tox that runs these tests lacks it, whoever installed that.
LACKS = "requires =\n    # why\n    tox>=4.40\n    no-such-plugin>=1.2\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tox.ini").write_text(f"[tox]\n{LACKS}")
    return tmp_path


def install(root: Path, python_name: str = PYTHON, **versions: str) -> Path:
    """Make tox's own environment with these packages, and return its Python."""
    own = root / ".tox" / ".tox"
    python = own / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    for name, version in versions.items():
        dist_info = own / "lib" / python_name / "site-packages" / f"{name}-{version}.dist-info"
        dist_info.mkdir(parents=True)
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (dist_info / "METADATA").write_text(text)
    (own / ".tox-info.json").write_text(json.dumps({"PythonRun": {"deps": {}}}))
    return python


def test_the_tox_that_tox_installed_is_called_directly(root: Path) -> None:
    python = install(root, tox="4.67.15", no_such_plugin="1.3rc1")
    apart = "-P" if sys.version_info >= (3, 11) else "-I"
    found = unlocked([*TOX, "--workdir", "x"], root, root / ".tox")
    assert found == [str(python), apart, "-m", "tox", "--workdir", "x"]


@pytest.mark.parametrize(
    "versions",
    [
        {},
        {"tox": "4.67.15"},
        {"tox": "4.67.15", "no_such_plugin": "1.1"},
        {"tox": "4.67.15", "no_such_plugin": "of yesterday"},
        {"tox": "4.39", "no_such_plugin": "1.2"},
    ],
)
def test_tox_installs_what_its_own_lacks(root: Path, versions: dict[str, str]) -> None:
    install(root, **versions)
    assert unlocked(TOX, root, root / ".tox") == TOX


def test_an_environment_of_another_python_is_left_to_tox(root: Path) -> None:
    install(root, "python3.9", tox="4.67.15", no_such_plugin="1.2")
    assert unlocked(TOX, root, root / ".tox") == TOX


@pytest.mark.parametrize("noted", ["{}", "[]", '{"PythonRun": 1}', '{"PythonRun": {}}', "{", None])
def test_an_installation_that_goes_on_is_left_to_tox(root: Path, noted: str | None) -> None:
    install(root, tox="4.67.15", no_such_plugin="1.2")
    note = root / ".tox" / ".tox" / ".tox-info.json"
    note.unlink() if noted is None else note.write_text(noted)
    assert unlocked(TOX, root, root / ".tox") == TOX


def test_tox_is_called_as_given_where_it_installed_none(root: Path) -> None:
    assert unlocked(TOX, root, root / ".tox") == TOX


@pytest.mark.parametrize(
    "text",
    [
        "[tox]\n",
        "[tox]\nrequires =\n    packaging\n    no-such-plugin ; python_version < '3'\n",
        "[tox]\nrequires =\n    not a requirement\n",
        "[testenv]\n",
        "no section\n",
        "[tox]\nrequires = x\xe9\n",
    ],
)
def test_tox_is_called_as_given_where_it_has_all_or_nobody_can_tell(root: Path, text: str) -> None:
    install(root, tox="4.67.15", no_such_plugin="1.2")
    (root / "tox.ini").write_text(text, encoding="latin-1")
    assert unlocked(TOX, root, root / ".tox") == TOX


def test_another_program_is_called_as_given(root: Path) -> None:
    install(root, tox="4.67.15", no_such_plugin="1.2")
    assert unlocked(["/usr/bin/tox"], root, root / ".tox") == ["/usr/bin/tox"]
