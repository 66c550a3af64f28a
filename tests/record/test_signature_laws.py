import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from failure_texts import (
    CHAINED,
    FAILURES,
    GROUPED,
    INDEX,
    INVALID,
    NOT_COMPILED,
    TRACED,
    WORKER,
)
from matrix.record.signature import SHORT_REASON_LIMIT, SIGNATURE_LIMIT, reason, signature

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
    error: str, said: str, module: str, function: str, *, folder: str, line: int, noise: str = ""
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
    place, log = (error, said, module, function), "INFO 11-23 00:13:45 [a.py:1]"
    told = signature(trace(*place, folder=one, line=line, noise=log))
    assert told == signature(trace(*place, folder=other, line=more, noise="a log: line"))
    kind = error.rpartition(".")[2]
    assert told == (f"{kind}: {said} at <address> after <time>, pid <pid> @ {module}:{function}")


@settings(deadline=None)
@given(st.tuples(types, words, modules, functions), st.tuples(types, words, modules, functions))
def test_another_type_message_or_frame_is_another_failure(
    one: tuple[str, str, str, str], other: tuple[str, str, str, str]
) -> None:
    told = [signature(trace(*place, folder="x", line=7)) for place in (one, other)]
    assert (told[0] == told[1]) == (one == other)


@settings(deadline=None)
@given(st.text(max_size=400), st.text("abc/_", min_size=1, max_size=300))
def test_a_long_message_keeps_its_frame(said: str, module: str) -> None:
    text = trace("ValueError", "x" * 400 + said, "vllm/a.py", "go", folder="x", line=7)
    assert signature(text).endswith(" @ vllm/a.py:go")
    long = trace("ValueError", "y", f"vllm/{module}.py", "go", folder="x", line=7)
    assert len(signature(long)) <= SIGNATURE_LIMIT
    assert signature(signature(long)) == signature(long)


def failure(*, address: int, folder: str, pid: int, port: int, seconds: float, line: int) -> str:
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
    assert len(why) <= SHORT_REASON_LIMIT
    assert "\n" not in why and "\x1b" not in why
    assert bool(why) == bool(signature(text))


def test_a_reason_names_no_folder() -> None:
    assert reason("OSError: [Errno 2] no file: '/home/joe/my models/x.json'") == (
        "OSError: [Errno 2] no file: 'x.json'"
    )
    text = failure(address=1, folder="home/joe", pid=2, port=3, seconds=4, line=5)
    assert "joe" not in reason(text)


def test_a_long_line_takes_no_long_time() -> None:
    command = (
        "subprocess.CalledProcessError: Command '['ninja']' returned non-zero exit status 1.\n"
    )
    for text in (
        "a/" * 200_000,
        "a." * 200_000,
        "1" * 400_000,
        "\x1b[" * 200_000,
        "Command '['" + "a', '" * 80_000,
        "'/a b/c " * 50_000,
        "(a pid=1) " * 40_000,
        "1%|" * 130_000,
        'time="x" level=info msg="' + '\\"' * 200_000,
        "gpu-3: Traceback (most recent call last)\n" * 4_000,
        command * 2_000,
        f"{command}ptxas {'ptxas ' * 600}\n" * 40,
        "The conflict is caused by:\n"
        + "    a 1 depends on b==1\n    c 1 depends on b==1\n" * 4_000,
    ):
        assert len(signature(text)) <= SIGNATURE_LIMIT
        assert len(reason(text)) <= SHORT_REASON_LIMIT


HEADS = (
    "vllm-server  | ",
    "vllm_1 | ",
    "[vllm] | ",
    "stack_vllm.1.x7k2abc@node-3    | ",
    "Aug 19 18:34:30 gpu-3 vllm[8707]: ",
    "Aug  9 08:04:30.123456 gpu-3.example.org python3[87]: ",
    "2026-08-19T18:34:30+0000 gpu-3 vllm[8707]: ",
    "[12345.678901] gpu-3 vllm[8707]: ",
    "(RayWorkerWrapper pid=20458, ip=10.0.0.9) ",
    "(ServeReplica:default:LLM pid=20458) ",
    "(pid=99) ",
    "(MapWorker(MapBatches(F)) pid=9) ",
    "(EngineCore_DP0 pid=1) (Worker_TP1 pid=2) ",
    "(raylet, ip=10.0.0.3) ",
    "2026-11-28T12:00:00.1234567Z ",
    "build (cu129)\tRun tests\t2026-11-28T12:00:00.1234567Z ",
    "[2026-11-28T12:00:00Z] ",
    "\x1b_bk;t=1764331200123\x07",
    "2026-11-28T12:00:00.123456Z 01E ",
    "2026-11-28T12:00:00.123456789Z stderr F ",
    "2026-11-28T12:00:00.123456789+01:00 ",
    "[pod/vllm-7d9c8b6f5-x2x4z/vllm] ",
    "vllm-7d9c8b6f54-x2x4z vllm ",
    "(EngineCore pid=123) ERROR 11-28 12:00:00 [core.py:12] ",
    "ERROR 11-28 12:00:00.123 [core.py:12] ",
    "ERROR 11-28 12:00:00 core.py:12] ",
    "2026-11-28 12:00:00,123 - vllm.engine - ERROR - ",
    "2026-11-28 12:00:00,123\tERROR worker.py:2058 -- ",
    "2026-11-28 12:00:00.123 | ERROR    | vllm.a:run:12 - ",
    "[2026-11-28 12:00:00 DP1 TP1] ",
    "[2026-11-28 16:30:24,706] [ERROR] [real_accelerator.py:219:get] ",
    "[default3]:[rank3]: ",
    "E0303 11:40:42.533000 713 torch/_inductor/x.py:533] [0/1_2] ",
    "[rank0]:[W1125 17:19:40.156408912 ProcessGroupNCCL.cpp:1524] ",
    "E0506 01:55:26.123456       1 main.go:12] ",
    "[1,0]<stderr>:",
    "#12 9.622 ",
)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(FAILURES)), st.lists(st.sampled_from(HEADS), min_size=1, max_size=3))
def test_heads_of_lines_do_not_count(name: str, heads: list[str]) -> None:
    text = FAILURES[name]
    headed = "\n".join("".join(heads) + line for line in text.splitlines())
    assert signature(headed) == signature(text)
    assert reason(headed) == reason(text)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(sorted(FAILURES.keys() - {"no-kernel-logrus"})),
    st.sampled_from(["", "api-1  | "]),
)
def test_lines_of_logrus_do_not_count(name: str, head: str) -> None:
    quoted = (line.replace("\\", r"\\").replace('"', r"\"") for line in FAILURES[name].splitlines())
    logged = [
        f'{head}time="2026-11-28T12:00:00Z" level=info msg="{line}" component=vllm'
        for line in quoted
    ]
    assert signature("\n".join(logged)) == signature(FAILURES[name])
    whole = "".join(line.split('msg="')[1].split('" component')[0] + r"\n" for line in logged)
    assert signature(f'time=2026-11-28T12:00:00Z level=ERROR source=x.go:1 msg="{whole}"') == (
        signature(FAILURES[name])
    )


@pytest.mark.parametrize("head", ["gpu-3: ", "10.0.0.7: ", "node3.example.org: ", "vllm-0 vllm "])
@pytest.mark.parametrize("name", sorted(FAILURES))
def test_hosts_and_pods_before_a_whole_text_do_not_count(name: str, head: str) -> None:
    lines = FAILURES[name].splitlines()
    if len(lines) == 1:
        return  # one line does not say whether a host begins it
    assert signature("\n".join(head + line for line in lines)) == signature(FAILURES[name])


def test_the_error_of_logrus_is_more_of_its_message() -> None:
    text = r'time="2026-11-28T12:00:00Z" level=error msg=failed error="RuntimeError: no \"x\"" a=b'
    assert signature(text) == 'RuntimeError: no "x"'


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_colours_and_the_line_ends_of_logrus_do_not_count(end: str) -> None:
    text = FAILURES["no-kernel-logrus"]
    coloured = end.join(f"\x1b[0;36m{line}\x1b[0m" for line in text.splitlines())
    assert signature(coloured) == signature(text)


UNSOLVED = ", we can conclude that your project's requirements are unsatisfiable."


@pytest.mark.parametrize(
    ("because", "expected"),
    [
        (
            "only vllm<=0.11.0 is available and your project depends on vllm>=0.12",
            "No matching distribution found for vllm>=0.12",
        ),
        (
            (
                "only the following versions of torch are available:\n        torch<=2.8.0\n"
                "        torch>2.9\n    and you require torch==2.9.0"
            ),
            "No matching distribution found for torch==2.9.0",
        ),
        (
            "there is no version of vllm==0.34.0 and you require vllm==0.34.0",
            "No matching distribution found for vllm==0.34.0",
        ),
        (
            "vllm==0.26.0 depends on torch==2.11.0 and you require torch==2.9.0",
            "vllm 0.26.0 needs torch==2.11.0, and torch==2.9.0 was asked for",
        ),
    ],
)
@pytest.mark.parametrize("head", ["", "  \u00d7 No solution found when resolving dependencies:\n"])
def test_sentences_of_uv_may_be_copied_without_their_head(
    head: str, because: str, expected: str
) -> None:
    frame = "  \u2570\u2500\u25b6 " if head else ""
    assert signature(f"{head}{frame}Because {because}{UNSOLVED}\n") == expected


def test_a_sentence_of_another_program_is_not_uvs() -> None:
    text = "Because only one GPU is here, it is used.\nRuntimeError: no kernel"
    assert signature(text) == "RuntimeError: no kernel"


PROGRESS = (
    "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01,  1.26s/it]",
    "Capturing CUDA graphs (mixed, PIECEWISE):  10%|█▏        | 7/67 [00:00<00:06,  9.81it/s]",
    "  0%|          | 0/4878 [00:00<?, ?it/s]",
)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(FAILURES)), st.data())
def test_what_a_terminal_adds_does_not_count(name: str, data: st.DataObject) -> None:
    lines = FAILURES[name].splitlines()
    shown = data.draw(st.lists(st.sampled_from(PROGRESS), max_size=3))
    for bar in shown:
        lines.insert(data.draw(st.integers(0, len(lines))), bar)
    colour = data.draw(st.sampled_from(["", "\x1b[0;36m", "\x1b[1;31m\x1b[4m"]))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    margin = data.draw(st.sampled_from(["", " ", "      "]))
    text = end.join(f"{margin}{colour}{line}\x1b[0m" for line in lines)
    assert signature(text) == signature(FAILURES[name])


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(sorted(FAILURES)), st.integers(2, 99))
def test_how_often_ray_saw_a_line_does_not_count(name: str, count: int) -> None:
    text = FAILURES[name]
    ended = "\n".join(f"{line} [repeated {count}x across cluster]" for line in text.splitlines())
    assert signature(ended) == signature(text)


ENGINE = """\
Traceback (most recent call last):
  File "/x/site-packages/vllm/v1/engine/utils.py", line 9, in wait_for_engine_startup
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
DEAD = """\
vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above)\
 for the root cause.
"""
BACKGROUND = """\
Exception: WorkerProc initialization failed due to an exception in a background process. See stack\
 trace for root cause.
"""
WORKER_FAILED = """\
RuntimeError: Worker failed with error 'it failed', please check the stack trace above for the root\
 cause
"""
INSPECTED = """\
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, Model architectures ['A'] failed to be inspected. Please check the logs for more\
 details. [type=value_error, input_value=ArgsKwargs(()), input_type=ArgsKwargs]
"""
COMMAND = """\
subprocess.CalledProcessError: Command '['/usr/bin/python3', '-m', 'vllm.registry']' returned\
 non-zero exit status 1.
"""
WRAPPED_AGAIN = (
    ENGINE,
    DEAD,
    BACKGROUND,
    WORKER_FAILED,
    INSPECTED,
    COMMAND,
    "RuntimeError: Engine process failed to start. See stack trace for the root cause.",
    "RuntimeError: Rank 0 scheduler died during initialization. Exit code: 1.",
    "RuntimeError: Initialization failed. Please see the error messages above.",
    "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
    "torch.multiprocessing.spawn.ProcessExitedException: process 1 terminated with exit code 1",
    "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.",
)
CAUSES = sorted(
    name
    for name, entry in INDEX.items()
    if entry.get("outcome") is None
    # Wrappers themselves, a reason without the output around it, a text that is moved as a whole.
    and name not in ("engine-alone", "stage-engine-dead", "certifi", "nvcc-deep-gemm")
)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(CAUSES), st.lists(st.sampled_from(WRAPPED_AGAIN), min_size=1, max_size=3))
def test_what_only_points_elsewhere_does_not_count(name: str, wrappers: list[str]) -> None:
    text = "\n".join([FAILURES[name].rstrip("\n"), "", *wrappers])
    assert signature(text) == INDEX[name]["signature"]
