import gc
from collections.abc import Iterator

import pytest

from matrix._util.gc import gc_paused
from matrix.cli import main
from matrix.errors import MatrixError


@pytest.fixture(params=[True, False])
def was_on(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether garbage is collected before, and so after."""
    before = gc.isenabled()
    on: bool = request.param
    gc.enable() if on else gc.disable()
    yield on
    gc.enable() if before else gc.disable()


def test_it_is_off_meanwhile_and_then_as_it_was(was_on: bool) -> None:
    @gc_paused()
    def asked() -> bool:
        return gc.isenabled()

    for _ in range(2):
        assert (asked(), gc.isenabled()) == (False, was_on)
    with gc_paused(), gc_paused():
        assert not gc.isenabled()
    assert gc.isenabled() == was_on


@pytest.mark.parametrize(
    "command",
    [
        ["table"],
        ["ci", "--format", "junit"],
        ["attribute", "--all"],
        ["qualify", "--torch", "2.12.1", "--baseline", "2.11.0"],
    ],
)
def test_the_commands_that_read_many_records_do_without(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def read(*_: object, **__: object) -> None:
        seen.append(gc.isenabled())
        raise MatrixError("enough")

    monkeypatch.setattr("matrix.store.load.newest_records", read)
    monkeypatch.setattr("matrix.qualify.load.read", read)
    assert main(command) == 2
    assert (seen, gc.isenabled()) == ([False], True)
