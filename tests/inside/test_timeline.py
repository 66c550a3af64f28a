from hypothesis import given
from hypothesis import strategies as st

from matrix.inside.timeline import Timeline


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_second_is_in_the_innermost_part() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    clock.now += 1
    with timeline.span("engine"):
        clock.now += 2
        with timeline.span("import"):
            clock.now += 4
        clock.now += 8
    clock.now += 16
    with timeline.span("import"):
        clock.now += 32
        # Also what runs still counts.
        assert timeline.parts() == {"engine": 10, "import": 36}


def test_a_span_that_fails_is_closed() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    try:
        with timeline.span("engine"):
            clock.now += 1
            raise ValueError
    except ValueError:
        clock.now += 2
    assert timeline.parts() == {"engine": 1}


def test_a_claim_goes_back_no_further_than_the_beginning() -> None:
    clock = Clock()
    timeline = Timeline(kept=("jit",), clock=clock)
    with timeline.span("load"):
        clock.now += 2
        with timeline.span("jit"):
            clock.now += 3
        assert timeline.claim(100.0) == 97.0
    assert timeline.parts() == {"jit": 3}


def test_a_forked_process_has_no_seconds_of_its_parent() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    with timeline.span("engine"):
        clock.now += 1
        with timeline.span("device"):
            clock.now += 2
            timeline.forget()
            clock.now += 4
        clock.now += 8
        with timeline.span("load"):
            clock.now += 16
    assert timeline.parts() == {"device": 4, "load": 16}
    timeline.forget()
    assert timeline.parts() == {}


steps = st.lists(
    st.tuples(st.sampled_from(["enter", "leave", "pass", "claim"]), st.integers(0, 9)), max_size=30
)


@given(steps)
def test_no_second_is_in_two_parts_and_none_is_lost(steps: list[tuple[str, int]]) -> None:
    clock = Clock()
    timeline = Timeline(kept=("jit",), clock=clock)
    names, opened, claimed = ("jit", "load", "profile"), [], 0.0
    for what, number in steps:
        if what == "enter":
            span = timeline.span(names[number % 3])
            span.__enter__()
            opened.append(span)
        elif what == "leave" and opened:
            opened.pop().__exit__(None, None, None)
        elif what == "pass":
            clock.now += number
        elif what == "claim":
            before = sum(timeline.parts().values())
            had = timeline.claim(float(number))
            taken = before - sum(timeline.parts().values())
            assert 0 <= taken <= had <= number
            claimed += taken
    while opened:
        opened.pop().__exit__(None, None, None)
    assert sum(timeline.parts().values()) + claimed <= clock.now
    with timeline.span("rest"):
        timeline.claim(clock.now + 1)
    assert set(timeline.parts()) <= {"jit"}
