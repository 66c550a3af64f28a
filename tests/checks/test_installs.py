"""Why an installer failed, by what it printed."""

import pytest

from matrix.checks.resolution.installs import why_install_failed
from matrix.record.model import ErrorKind, RunError

NEW_UV = """Using Python 3.11.7 environment at: .tox/x
error: No solution found when resolving dependencies
  cause: Because only a<=1 is available and b>=3 depends on a>=2, we can conclude
         that b>=3 cannot be used.
         And because you require b==3, we can conclude that it is unsatisfiable.

hint: try something else
"""
OLD_UV = """\x1b[31m  \u00d7 No solution found when resolving dependencies:\x1b[0m
  \u2570\u2500\u25b6 Because there is no version of a==9 and you
      require a==9, it is unsatisfiable.
"""
OFFLINE = """error: No solution found
  cause: Because a was not found in the cache

hint: Packages were unavailable because the network was disabled.
"""
NO_NETWORK = """error: Request failed after 3 retries
  cause: Failed to fetch: `https://ann:secret@index.invalid/simple/a/`
  cause: dns error
"""
NOT_MADE = "the environment could not be made: "


@pytest.mark.parametrize(
    ("said", "kind", "reason"),
    [
        (
            NEW_UV,
            "resolves",
            "Because only a<=1 is available and b>=3 depends on a>=2, we can conclude that b>=3"
            " cannot be used. And because you require b==3, we can conclude that it is"
            " unsatisfiable.",
        ),
        (
            OLD_UV,
            "resolves",
            "Because there is no version of a==9 and you require a==9, it is unsatisfiable.",
        ),
        (
            "ERROR: No matching distribution found for torch==9",
            "resolves",
            "ERROR: No matching distribution found for torch==9",
        ),
        (
            OFFLINE,
            "internal",
            f"{NOT_MADE}No solution found: Because a was not found in the cache",
        ),
        (
            NO_NETWORK,
            "internal",
            f"{NOT_MADE}Request failed after 3 retries: Failed to fetch: a",
        ),
        (
            "error: Failed to extract\n  cause: No space left on device (os error 28)",
            "no_space",
            "cause: No space left on device (os error 28)",
        ),
        ("", "internal", f"{NOT_MADE}the installer gave no reason"),
    ],
)
def test_why_an_install_failed(said: str, kind: str, reason: str) -> None:
    assert why_install_failed(said) == RunError(kind=ErrorKind(kind), reason=reason)


def test_why_an_index_was_not_reached_is_told_without_its_address() -> None:
    said = (
        "error: Failed to fetch: `https://index.example:8443/simple/torchvision/`\n"
        "  cause: error sending request for url (https://index.example:8443/simple/torchvision/)\n"
        "  cause: invalid peer certificate: UnknownIssuer\n"
    )
    for text in (said, said.replace("`", "")):
        error = why_install_failed(text)
        assert (error.kind, error.reason) == (
            "internal",
            "the environment could not be made: Failed to fetch: torchvision: "
            "error sending request for url (torchvision)",
        )
