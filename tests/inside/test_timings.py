import logging
import logging.config
import math
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matrix.inside import vllm_compat
from matrix.inside.timeline import Timeline
from matrix.inside.timings import Timings, reported, watch

RANGE = "(1, 1024)"
INSPECT = "%s: Elapsed time %.7f secs"
DYNAMO = "Dynamo bytecode transform time: %.2f s"
COMPILE = "Compiling a graph for compile range %s takes %.2f s"
LOAD = "Directly load the compiled graph(s) for compile range %s from the cache, took %.3f s"
AOT = "Directly load AOT compilation from path %s"
WHOLE = "torch.compile took %.2f s in total"

# Facts: the templates and their arguments, by the vLLM release whose sources have them.
REPORTED = [
    ("0.16 to 0.32", INSPECT, ("Registry inspect model class", 16.5), ("inspect", 16.5)),
    ("0.16 to 0.20", DYNAMO, (3.6,), ("until backend", 3.6)),
    ("0.32", f"%s{DYNAMO}", ("[decoder] ", 3.6), ("until backend", 3.6)),
    ("0.16 to 0.20", COMPILE, (RANGE, 13.3), ("compile", 13.3)),
    ("0.32", f"%s{COMPILE}", ("", RANGE, 13.3), ("compile", 13.3)),
    ("0.10", "Compiling a graph for dynamic shape takes %.2f s", (13.3,), ("compile", 13.3)),
    ("0.16 to 0.20", LOAD, (RANGE, 0.5), ("load graphs", 0.5)),
    ("0.32", f"%s{LOAD}", ("", RANGE, 0.5), ("load graphs", 0.5)),
    ("0.19, 0.20", WHOLE, (17.2,), ("whole", 17.2)),
    ("0.32", f"%s{WHOLE}", ("", 17.2), ("whole", 17.2)),
    (
        "0.16 to 0.32",
        "Model loading took %s GiB memory and %.6f seconds",
        ("0.1", 1.25),
        ("load", 1.25),
    ),
    (
        "0.16 to 0.20, the second runner",
        "Model loading took %s GiB and %.6f seconds",
        ("0.1", 1.25),
        ("load", 1.25),
    ),
]
NOT_TOLD = [
    # vLLM 0.16 and 0.17 say the sum so far, which is no new time.
    ("torch.compile takes %.2f s in total", (16.9,)),
    # With the model's first run in it, it does not tell of compilation alone.
    ("torch.compile and initial profiling/warmup run together took %.2f s in total", (16.9,)),
    ("Initial profiling/warmup run took %.2f s", (1.0,)),
    ("init engine (profile, create kv cache, warmup model) took %.2f seconds", (18.3,)),
    (INSPECT, ("Function 'vllm.x.y'", 1.0)),
    ("Using cache directory: %s for vLLM's torch.compile", ("a",)),
    ("%s", (COMPILE,)),
    ("", ()),
]
MALFORMED: list[object] = [
    (),
    None,
    ("3.6",),
    (None,),
    (True,),
    (math.nan,),
    (math.inf,),
    (-1.0,),
    ([3.6],),
    {"seconds": 3.6},
    3.6,
]


@pytest.mark.parametrize(("template", "arguments", "wanted"), [row[1:] for row in REPORTED])
def test_what_a_release_tells(
    template: str, arguments: tuple[object, ...], wanted: tuple[str, float]
) -> None:
    assert template % arguments
    assert reported(template, arguments) == wanted


@pytest.mark.parametrize(("template", "arguments"), NOT_TOLD)
def test_what_tells_no_time_of_a_part(template: str, arguments: tuple[object, ...]) -> None:
    assert reported(template, arguments) is None


@pytest.mark.parametrize("arguments", MALFORMED)
@pytest.mark.parametrize("template", [INSPECT, DYNAMO, COMPILE, LOAD, WHOLE, AOT, 7, None])
def test_malformed_arguments_change_nothing(template: object, arguments: object) -> None:
    heard = Timings()
    heard.add(template, arguments)
    assert reported(template, arguments) is None
    assert heard.parts({}) == {}


def test_an_argument_more_in_front_does_no_harm() -> None:
    assert reported(COMPILE, ("more", RANGE, 9.5)) == ("compile", 9.5)


@given(st.text() | st.integers() | st.none(), st.lists(st.text() | st.floats()).map(tuple))
def test_no_record_of_a_log_breaks_the_listener(template: object, arguments: object) -> None:
    heard = Timings()
    heard.add(template, arguments)
    assert all(seconds >= 0 for seconds in heard.parts({}).values())


def parts(*records: tuple[str, tuple[Any, ...]], **torch: float) -> dict[str, float]:
    heard = Timings()
    for template, arguments in records:
        heard.add(template, arguments)
    return heard.parts({name.replace("_", "."): seconds for name, seconds in torch.items()})


def test_a_cold_start_traces_compiles_and_saves() -> None:
    records = (DYNAMO, (3.5,)), (COMPILE, (RANGE, 13.5))
    saved = {"CompiledArtifact_save": 0.5, "compile.file": 9.0}
    wanted = {"dynamo": 3.5, "inductor": 13.0, "save": 0.5}
    assert parts(*records, **saved) == wanted
    assert parts(*records, (WHOLE, (17.5,)), **saved) == wanted
    assert parts(*records, ("torch.compile takes %.2f s in total", (17.0,)), **saved) == wanted


def test_the_ranges_of_sizes_add_up() -> None:
    assert parts((COMPILE, ("(1, 8)", 2.0)), (COMPILE, ("(9, 64)", 3.0))) == {"inductor": 5.0}


def test_a_warm_start_that_traces_loads_its_graphs() -> None:
    records = (DYNAMO, (2.25,)), (LOAD, (RANGE, 0.5))
    assert parts(*records) == {"dynamo": 2.25, "artifacts_load": 0.5}
    saved = parts(*records, CompiledArtifact_save=0.125)
    assert saved == {"dynamo": 2.25, "artifacts_load": 0.375, "save": 0.125}


def test_reading_what_dynamo_made_is_not_dynamo() -> None:
    reads = (DYNAMO, (0.75,)), (LOAD, (RANGE, 0.5))
    assert parts(*reads, (AOT, ("model",)), (WHOLE, (1.5,))) == {"artifacts_load": 1.5}
    assert parts((AOT, ("model",)), *reads) == {"artifacts_load": 1.25}
    assert parts((AOT, ("model",)), (WHOLE, (0.25,))) == {"artifacts_load": 0.25}
    assert parts((AOT, ("model",))) == {}
    missing = parts(*reads, (COMPILE, (RANGE, 4.0)), (AOT, ("model",)), (WHOLE, (6.0,)))
    assert missing == {"artifacts_load": 2.0, "inductor": 4.0}


def test_each_model_of_a_start_is_settled_for_itself() -> None:
    loaded = (AOT, ("encoder",)), (WHOLE, (0.25,))
    traced = (DYNAMO, (3.0,)), (COMPILE, (RANGE, 9.0)), (WHOLE, (13.0,))
    wanted = {"artifacts_load": 0.25, "dynamo": 3.0, "inductor": 9.0}
    assert parts(*loaded, *traced) == parts(*traced, *loaded) == wanted


def test_what_nobody_reports_is_left_out() -> None:
    assert parts() == {}
    assert parts(compile_file=9.0) == {}
    assert parts(CompiledArtifact_save=0.5) == {"save": 0.5}
    # More than all of it cannot lie within it, but no part may be below nothing.
    assert parts((COMPILE, (RANGE, 0.5)), CompiledArtifact_save=0.75)["inductor"] == 0.0


def test_torchs_events_are_summed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    utils = types.ModuleType("torch._dynamo.utils")
    vars(utils)["compilation_time_metrics"] = {"CompiledArtifact.save": [0.25, 0.5], "gc": []}
    for name in ("torch", "torch._dynamo"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", utils)
    assert vllm_compat.compiler_seconds() == {"CompiledArtifact.save": 0.75}


class Shown(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def log() -> Iterator[Shown]:
    """vLLM's loggers as its own set-up leaves them, at WARNING; put back afterwards."""
    top, shown = logging.getLogger("vllm"), Shown()
    level, propagate = top.level, top.propagate
    top.addHandler(shown)
    top.setLevel(logging.WARNING)
    top.propagate = False
    yield shown
    top.removeHandler(shown)
    top.setLevel(level)
    top.propagate = propagate


BACKENDS = logging.getLogger("vllm.compilation.backends")
REGISTRY = logging.getLogger("vllm.model_executor.models.registry")


def say() -> None:
    BACKENDS.debug("%d", 1)
    BACKENDS.info(DYNAMO, 3.5)
    BACKENDS.warning("careful")
    REGISTRY.debug(INSPECT, "Registry inspect model class", 16.5)


def test_what_is_not_shown_is_heard(log: Shown) -> None:
    with watch() as heard:
        say()
    assert heard.parts({}) == {"inspect": 16.5, "dynamo": 3.5}
    assert log.lines == ["careful"]


def test_what_was_shown_is_shown_still(log: Shown) -> None:
    top, root = logging.getLogger("vllm"), logging.getLogger()
    above = Shown()
    top.propagate = True
    BACKENDS.setLevel(logging.DEBUG)
    root.addHandler(above)
    try:
        with watch() as heard:
            say()
            logging.getLogger("torch").warning("else")
    finally:
        root.removeHandler(above)
        BACKENDS.setLevel(logging.NOTSET)
    assert heard.parts({})["dynamo"] == 3.5
    assert log.lines == ["1", DYNAMO % 3.5, "careful"]
    assert above.lines == [*log.lines, "else"]


def test_afterwards_all_is_as_before(log: Shown) -> None:
    handlers = list(logging.getLogger("vllm").handlers)
    with pytest.raises(ValueError, match="died"), watch() as heard:
        raise ValueError("died")
    say()
    assert heard.parts({}) == {}
    assert log.lines == ["careful"]
    assert logging.getLogger("vllm").handlers == handlers and log.filters == []
    assert (logging.getLogger("vllm").level, REGISTRY.level) == (logging.WARNING, logging.NOTSET)


def test_a_log_that_is_set_up_again_is_still_heard(log: Shown) -> None:
    top, usual = logging.getLogger("vllm"), logging.config.dictConfigClass
    with watch() as heard:
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "handlers": {"new": {"()": Shown}},
                "loggers": {"vllm": {"handlers": ["new"], "level": "ERROR", "propagate": False}},
            }
        )
        say()
        BACKENDS.error("lost")
    [new] = top.handlers
    assert isinstance(new, Shown)
    assert heard.parts({}) == {"inspect": 16.5, "dynamo": 3.5}
    assert (new.lines, log.lines) == (["lost"], [])
    # What was set up is what stays.
    assert (top.level, REGISTRY.level, new.filters) == (logging.ERROR, logging.NOTSET, [])
    assert logging.config.dictConfigClass is usual
    top.removeHandler(new)


def test_a_log_that_cannot_be_set_up_is_heard_still(log: Shown) -> None:
    with watch() as heard:
        with pytest.raises(ValueError, match="version"):
            logging.config.dictConfig({"version": 7})
        say()
    assert heard.parts({}) == {"inspect": 16.5, "dynamo": 3.5}
    assert log.lines == ["careful"]


def test_what_is_reported_is_taken_from_the_step_that_it_lies_in() -> None:
    now = [0.0]
    timeline = Timeline(kept=("jit",), clock=lambda: now[0])
    heard = Timings(timeline=timeline)
    with timeline.span("profile"):
        now[0] += 1.0
        with timeline.span("import"):
            now[0] += 2.0
        now[0] += 1.0
        heard.add(DYNAMO, (3.5,))  # the import was within it
        with timeline.span("jit"):
            now[0] += 4.0
        now[0] += 5.0
        heard.add(COMPILE, (RANGE, 9.0))
        now[0] += 0.25
    parts = heard.parts({"CompiledArtifact.save": 1.0})
    assert parts == {"profile": 0.75, "dynamo": 3.5, "jit": 4.0, "inductor": 4.0, "save": 1.0}
    assert sum(parts.values()) == now[0]


def test_a_loaded_model_claims_its_whole_compilation_once() -> None:
    now = [0.0]
    timeline = Timeline(clock=lambda: now[0])
    heard = Timings(timeline=timeline)
    with timeline.span("profile"):
        now[0] += 1.0
        heard.add(AOT, ("/x",))
        now[0] += 1.0
        heard.add(DYNAMO, (1.5,))
        now[0] += 0.5
        heard.add(WHOLE, (2.0,))
        now[0] += 0.5
    assert heard.parts({}) == {"artifacts_load": 2.0, "profile": 1.0}
