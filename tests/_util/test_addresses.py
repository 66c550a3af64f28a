"""Addresses without what is secret in them."""

from __future__ import annotations

import pytest

from matrix._util.addresses import without_logins


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://me:secret@host/x", "https://host/x"),
        ("https://me:pa@ss@host/x", "https://host/x"),
        ("https://me:se/cret@host/x is not there", "https://host/x is not there"),
        ("https://me:12345678@host/x", "https://host/x"),
        ("me:secret@host/x", "host/x"),
        ("https://host:8080/x@1", None),
        ("https://host:8080 and a@b", None),
        ("https://[::1]:80/x@1", None),
        ("https://github.com/owner/name@main", None),
        ("https://host: does not answer, see a@b", None),
    ],
)
def test_no_login_is_printed_and_the_rest_stays(text: str, clean: str | None) -> None:
    assert without_logins(text) == (text if clean is None else clean)
