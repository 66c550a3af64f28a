"""A file by its path or its address: found, fetched, held to its SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from local_index import Served
from matrix.catalog.index import FetchError
from matrix.catalog.located import find_file, name_of

CONTENT = b"a wheel"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("sha256", [None, DIGEST, DIGEST.upper(), f"sha256:{DIGEST}"])
def test_a_file_at_a_path_stays_where_it_is(tmp_path: Path, sha256: str | None) -> None:
    path = tmp_path / "a b-1.whl"
    path.write_bytes(CONTENT)
    for location in (str(path), path.as_uri()):
        assert name_of(location) == path.name
        assert find_file(location, tmp_path / "none", sha256=sha256) == (path, DIGEST)


def test_a_file_at_an_address_is_fetched(served: Served, tmp_path: Path) -> None:
    served.add("torch", "torch-2.16.0+cu130.whl", CONTENT)
    location = f"{served.url[:-8]}/files/torch-2.16.0%2Bcu130.whl"
    path, digest = find_file(location, tmp_path, sha256=DIGEST)
    assert (path, path.read_bytes()) == (tmp_path / "torch-2.16.0+cu130.whl", CONTENT)
    assert digest == DIGEST


def test_another_file_than_the_one_that_was_meant(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a-1.whl").write_bytes(CONTENT)
    served.add("a", "a-1.whl", CONTENT)
    for location in (str(tmp_path / "a-1.whl"), f"{served.url[:-8]}/files/a-1.whl"):
        with pytest.raises(FetchError) as caught:
            find_file(location, tmp_path, sha256="0" * 64)
        assert str(caught.value) == (
            f"a-1.whl: its SHA-256 is {DIGEST}, not {'0' * 64}; it is not the file that was meant"
        )


@pytest.mark.parametrize("end", ["..", "%2e%2e", "a%2F..%2Fb", ".hidden", "a%00b", "", "a%5Cb"])
def test_an_address_that_ends_in_no_name_is_not_fetched(end: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"^[^\n]+: does not end in the name of a file$") as caught:
        find_file(f"https://me:hunter2@127.0.0.1:9/{end}", tmp_path)
    assert "hunter2" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_path_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"a-1\.whl: does not exist; name a file that does$"):
        find_file(str(tmp_path / "a-1.whl"), tmp_path)
