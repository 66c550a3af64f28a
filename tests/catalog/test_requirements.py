"""The file of what each release of vLLM requires."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from matrix.catalog.releases_file import load_releases
from matrix.catalog.requirements import (
    REQUIREMENTS_FILE,
    RequirementsError,
    known_requirements,
    read_requirements,
    to_json,
)


def test_every_known_release_has_its_requirements_and_its_pin() -> None:
    found = known_requirements()
    releases = load_releases()
    for release in releases.vllm:
        pins = [
            str(requirement.specifier)
            for requirement in map(Requirement, found[release.version])
            if requirement.name == "torch"
        ]
        assert pins == [f"=={release.torch}"]


def test_the_file_is_as_it_is_written() -> None:
    found = known_requirements()
    assert REQUIREMENTS_FILE.read_text() == to_json(found)
    assert list(found) == sorted(found, key=Version)


def test_a_file_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert read_requirements(tmp_path / "none.json") == {}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not an object; restore it"),
        ('{"0.26.0": "torch"}', "0.26.0: is not a list of strings; restore it"),
        ('{"0.26.0": [1]}', "0.26.0: is not a list of strings; restore it"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, wrong: str) -> None:
    path = tmp_path / "requirements.json"
    path.write_text(text)
    with pytest.raises(RequirementsError, match=wrong) as caught:
        read_requirements(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
