import os
from pathlib import Path

import pytest

from matrix.catalog.index_config import IndexAddressError, certificates, index_address

NONE = {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
PIP, UV = "https://pip.example/simple", "https://uv.example/simple"


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, None),
        ({"PIP_INDEX_URL": PIP}, PIP),
        ({"PIP_INDEX_URL": PIP, "UV_INDEX_URL": UV}, UV),
        ({"UV_INDEX_URL": PIP, "UV_DEFAULT_INDEX": UV}, UV),
        ({"UV_DEFAULT_INDEX": f"mine={UV}"}, UV),
        ({"UV_DEFAULT_INDEX": f"{UV}?a=b"}, f"{UV}?a=b"),
        ({"UV_DEFAULT_INDEX": " ", "PIP_INDEX_URL": PIP}, PIP),
    ],
)
def test_the_environment_names_an_index(environ: dict[str, str], address: str | None) -> None:
    assert index_address({**NONE, **environ}) == address


def test_pips_files_name_an_index_and_the_last_one_counts(tmp_path: Path) -> None:
    user, named = tmp_path / "config" / "pip" / "pip.conf", tmp_path / "named.conf"
    user.parent.mkdir(parents=True)
    user.write_text(f"[global]\nindex-url = {PIP}\ncert = /user.pem\n[install]\nindex-url = no\n")
    environ = {
        "UV_NO_CONFIG": "1",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_CONFIG_DIRS": str(tmp_path / "none"),
        "VIRTUAL_ENV": str(tmp_path / "none"),
    }
    assert index_address(environ) == PIP
    assert certificates(environ) == "/user.pem"
    named.write_text(f"[global]\nindex-url = {UV}?100%\n")
    environ["PIP_CONFIG_FILE"] = str(named)
    assert index_address(environ) == f"{UV}?100%"
    assert certificates(environ) == "/user.pem"
    assert certificates({**environ, "SSL_CERT_FILE": "/ssl.pem"}) == "/ssl.pem"
    assert certificates({**environ, "SSL_CERT_FILE": "/ssl", "PIP_CERT": "/pip"}) == "/pip"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", None),
        (f'index-url = "{UV}"', UV),
        (f'[pip]\nindex-url = "{UV}"', UV),
        (f'[[index]]\nurl = "{PIP}"\n[[index]]\nurl = "{UV}"\ndefault = true', UV),
        (f'[[index]]\nurl = "{PIP}"', None),
        ("index = 1\npip = 2", None),
    ],
)
def test_uv_toml_names_an_index(tmp_path: Path, text: str, address: str | None) -> None:
    (tmp_path / "uv.toml").write_text(text)
    environ = {"PIP_CONFIG_FILE": os.devnull, "XDG_CONFIG_HOME": str(tmp_path / "none")}
    assert index_address({**environ, "UV_CONFIG_FILE": str(tmp_path / "uv.toml")}) == address
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert index_address(environ, below) == address
    assert index_address({**environ, "UV_NO_CONFIG": "1"}, below) is None


@pytest.mark.parametrize("name", ["UV_CONFIG_FILE", "PIP_CONFIG_FILE"])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    bad = tmp_path / "bad"
    bad.write_text("no = = config")
    with pytest.raises(IndexAddressError, match=r"bad: cannot be read \(.+\); mend it$"):
        index_address({"PIP_CONFIG_FILE": os.devnull, "HOME": str(tmp_path), name: str(bad)})
