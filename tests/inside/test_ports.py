"""Ports of a case's own: `matrix.inside.ports`."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from matrix.inside.ports import CasePorts


@contextmanager
def taken(port: int) -> Iterator[None]:
    """Take a port as torch's store does, which sets SO_REUSEADDR."""
    with closing(socket.socket()) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("", port))
        other.listen(1)
        yield


def first_of(ports: CasePorts) -> int:
    return int(ports.environment["VLLM_PORT"])


def test_cases_at_work_at_once_have_blocks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_PORT", raising=False)
    with closing(CasePorts()) as one, closing(CasePorts()) as two, closing(CasePorts()) as three:
        firsts = sorted(map(first_of, (one, two, three)))
    assert firsts[0] > 20000 and firsts[1] - firsts[0] >= 100 and firsts[2] - firsts[1] >= 100


def test_a_port_that_the_user_named_is_where_the_blocks_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLLM_PORT", "41700")
    with closing(CasePorts()) as one, closing(CasePorts()) as two:
        assert 41700 < first_of(one) < first_of(two)


def test_a_closed_block_is_free_for_the_next_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_PORT", "42700")
    with closing(CasePorts()) as one:
        first = first_of(one)
    with closing(CasePorts()) as two:
        assert first_of(two) == first
    assert one.environment == {}


def test_a_block_whose_first_port_another_process_has_is_passed_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLLM_PORT", "43700")
    with closing(CasePorts()) as free:
        first = first_of(free)
    with taken(first - 1), closing(CasePorts()) as ports:
        assert first_of(ports) > first
    with closing(CasePorts()), pytest.raises(OSError, match="in use"), taken(first - 1):
        pytest.fail("another process could take the first port of a block that a case holds")


@pytest.mark.parametrize("named", ["tcp://10.0.0.1:4000", "", "65500", "99999999999"])
def test_a_port_from_which_no_block_begins_is_left_to_vllm(
    monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("VLLM_PORT", named)
    with closing(CasePorts()) as ports:
        assert ports.environment == {}
