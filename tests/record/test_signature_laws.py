from hypothesis import example, given, settings
from hypothesis import strategies as st

from failure_texts import CHAINED, FAILURES, GROUPED, INVALID, NOT_COMPILED, TRACED, WORKER
from matrix.record.signature import REASON_LIMIT, SIGNATURE_LIMIT, reason, signature

folders = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-/", min_size=1, max_size=30).map(
    lambda text: "x" + text.replace("//", "/").rstrip("/")
)
words = st.lists(
    st.sampled_from(["graph", "kernel", "cache", "artifact", "missing", "is", "not", "of"]),
    min_size=1,
    max_size=6,
).map(" ".join)
types = st.sampled_from(["ValueError", "RuntimeError", "torch._inductor.exc.FooError", "Again"])
modules = st.sampled_from(["vllm/v1/engine/core.py", "torch/_inductor/graph.py", "triton/a/b.py"])
functions = st.sampled_from(["__init__", "load", "<module>", "<lambda>", "forward"])


def trace(
    error: str, said: str, module: str, function: str, folder: str, line: int, noise: str
) -> str:
    return (
        f"{noise}\nTraceback (most recent call last):\n"
        f'  File "/{folder}/site-packages/vllm/entrypoints/llm.py", line {line}, in __init__\n'
        f'  File "/{folder}/site-packages/{module}", line {line}, in {function}\n'
        f"    self.go()\n    ~~~~~~~^^\n"
        f'  File "/{folder}/site-packages/torch/nn/modules/module.py", line {line}, in _call_impl\n'
        f'  File "/{folder}/lib/python3.12/contextlib.py", line {line}, in inner\n'
        f'  File "<frozen importlib._bootstrap>", line {line}, in _find_and_load\n'
        f"{error}: {said} at {hex(line)} after {line} s, pid {line}\n"
    )


@settings(deadline=None)
@given(
    types, words, modules, functions, folders, folders, st.integers(1, 10**6), st.integers(1, 10**6)
)
def test_where_does_not_vary(
    error: str, said: str, module: str, function: str, one: str, other: str, line: int, more: int
) -> None:
    told = signature(
        trace(error, said, module, function, one, line, "INFO 11-23 00:13:45 [a.py:1]")
    )
    assert told == signature(trace(error, said, module, function, other, more, "a log: line"))
    kind = error.rpartition(".")[2]
    assert told == (f"{kind}: {said} at <address> after <time>, pid <pid> @ {module}:{function}")


@settings(deadline=None)
@given(st.tuples(types, words, modules, functions), st.tuples(types, words, modules, functions))
def test_another_type_message_or_frame_is_another_failure(
    one: tuple[str, str, str, str], other: tuple[str, str, str, str]
) -> None:
    told = [signature(trace(*each, "x", 7, "")) for each in (one, other)]
    assert (told[0] == told[1]) == (one == other)


@settings(deadline=None)
@given(st.text(max_size=400), st.text("abc/_", min_size=1, max_size=300))
def test_a_long_message_keeps_its_frame(said: str, module: str) -> None:
    text = trace("ValueError", "x" * 400 + said, "vllm/a.py", "go", "x", 7, "")
    assert signature(text).endswith(" @ vllm/a.py:go")
    long = trace("ValueError", "y", f"vllm/{module}.py", "go", "x", 7, "")
    assert len(signature(long)) <= SIGNATURE_LIMIT
    assert signature(signature(long)) == signature(long)


def failure(address: int, folder: str, pid: int, port: int, seconds: float, line: int) -> str:
    return (
        f"(EngineCore_0 pid={pid}) ERROR 11-22 18:{pid % 60:02}:00 [core.py:{line}] Traceback\n"
        f'  File "/{folder}/vllm/core.py", line {line}, in run\n'
        f"RuntimeError: worker pid {pid} at <Engine object at {address:#x}> on port {port} died"
        f" after {seconds:.2f} s at 2026-11-22T18:{pid % 60:02}:00Z (hash {address:016x}1),"
        f" see '/{folder}/log.txt' and /{folder}/core.py:{line}\n"
    )


runs = st.builds(
    failure,
    address=st.integers(2**20, 2**48),
    folder=folders,
    pid=st.integers(1, 4_000_000),
    port=st.integers(1, 65535),
    seconds=st.floats(0, 1e5),
    line=st.integers(1, 99_999),
)


@settings(deadline=None)
@given(runs, runs)
def test_two_runs_of_one_failure_have_one_signature(one: str, other: str) -> None:
    assert signature(one) == signature(other)
    assert signature(one).startswith("RuntimeError: worker pid <pid> at ")
    assert signature(one).endswith(" @ vllm/core.py:run")


lines = st.one_of(
    st.text(max_size=80),
    st.sampled_from([*CHAINED.splitlines(), *WORKER.splitlines()]),
    st.sampled_from(sorted(FAILURES.values())),
    st.sampled_from([*GROUPED.splitlines(), *TRACED.splitlines(), "killed by SIGSEGV"]),
    st.sampled_from([*INVALID.splitlines(), *NOT_COMPILED.splitlines(), "x.Error: y", "Exit"]),
    st.from_regex(r"([a-z]{1,3}\.){0,2}[A-Z][a-z]{0,3}Error: .{0,40}", fullmatch=True),
    st.text("0123456789abcdefx/:. '\"<>-", min_size=290, max_size=320),
)


@settings(deadline=None)
@given(st.lists(lines, max_size=6).map("\n".join))
@example(CHAINED)
@example(WORKER)
@example("x @ vllm/a.py:f @ vllm/b.py:g")
@example("std::bad: Killed")
@example("x" * 292 + " deadbee1zz")
def test_a_signature_is_its_own_signature(text: str) -> None:
    once = signature(text)
    assert signature(once) == once
    assert len(once) <= SIGNATURE_LIMIT
    assert "\n" not in once and "\x1b" not in once


@settings(deadline=None)
@given(st.lists(lines, max_size=6).map("\n".join))
def test_a_reason_is_one_short_line(text: str) -> None:
    why = reason(text)
    assert len(why) <= REASON_LIMIT
    assert "\n" not in why and "\x1b" not in why
    assert bool(why) == bool(signature(text))


def test_a_reason_names_no_folder() -> None:
    assert reason("OSError: [Errno 2] no file: '/home/joe/my models/x.json'") == (
        "OSError: [Errno 2] no file: 'x.json'"
    )
    assert "joe" not in reason(failure(1, "home/joe", 2, 3, 4, 5))


def test_a_long_line_takes_no_long_time() -> None:
    for each in ("a/" * 200_000, "a." * 200_000, "1" * 400_000, "\x1b[" * 200_000):
        assert len(signature(each)) <= SIGNATURE_LIMIT
        assert len(reason(each)) <= REASON_LIMIT
