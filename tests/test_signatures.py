import doctest

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from matrix import signatures
from matrix.signatures import REASON_LIMIT, SIGNATURE_LIMIT, reason, signature

CHAINED = """\
Traceback (most recent call last):
  File "/srv/vllm/backends.py", line 71, in load
    return cache[key]
KeyError: 140234234234234

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/srv/vllm/core.py", line 842, in run
RuntimeError: cannot load the compiled graph
"""
HANDLED = CHAINED.replace(
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
WORKER = """\
(EngineCore_0 pid=123) ERROR 11-22 18:00:00 [core.py:842] torch._dynamo.exc.BackendCompilerFailed: \
backend='<vllm.Backend object at 0x7f00>' raised:
(EngineCore_0 pid=123) ERROR 11-22 18:00:00 [core.py:842] RuntimeError: operator \
torchvision::nms does not exist
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
UNKNOWN = (
    "Value error, The checkpoint you are trying to load has model type `minimax_m2` but "
    "Transformers does not recognize this architecture."
)
INVALID = f"""\
  File "/srv/vllm/config.py", line 12, in create_model_config
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  {UNKNOWN} [type=value_error, input_value=ArgsKwargs((), {{'model': 7}}), input_type=ArgsKwargs]
    For further information visit https://errors.pydantic.dev/2.14/v/value_error
"""
NOT_COMPILED = """\
torch._inductor.exc.InductorError: CppCompileError: C++ compile error

Command:
g++ /run/user/cache/ab/cabcdef.main.cpp -D TORCH -o /run/user/cache/ab/cabcdef.main.so

Output:
In file included from /run/user/cache/ab/cabcdef.main.cpp:1:
/srv/torch/include/parallel.h:12:10: fatal error: omp.h: No such file or directory
   12 | #include <omp.h>
compilation terminated.
collect2: error: ld returned 1 exit status
"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ""),
        ("\n \n", ""),
        ("KeyboardInterrupt", "KeyboardInterrupt"),
        (CHAINED, "KeyError: <id>"),
        (HANDLED, "RuntimeError: cannot load the compiled graph"),
        (WORKER, "RuntimeError: operator torchvision::nms does not exist"),
        (
            "RuntimeError: Engine core initialization failed. See root cause above.",
            "RuntimeError: Engine core initialization failed. See root cause above.",
        ),
        (
            "ImportError: /home/joe/site-packages/vllm/_C.abi3.so: undefined symbol: _ZN3c104cudaE",
            "ImportError: <path>: undefined symbol: _ZN3c104cudaE",
        ),
        (
            "E       AssertionError: warm start\nE       assert 3 == 0\n\n"
            "tests/startup/test_x.py:12: AssertionError",
            "AssertionError: warm start",
        ),
        (
            "E       assert 3 == 0\n\ntests/startup/test_x.py:12: AssertionError",
            "AssertionError: assert 3 == 0",
        ),
        (
            "terminate called after throwing an instance of 'c10::Error'\n  what():  no kernel",
            "c10::Error: no kernel",
        ),
        ("Fatal Python error: Segmentation fault\n\nThread 0x00007f (most recent call first):\n",
         "Fatal Python error: Segmentation fault"),
        ("a log line\nSegmentation fault (core dumped)\n", "Segmentation fault"),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Process 34 has 3.5 GiB",
            "OutOfMemoryError: CUDA out of memory. Process <pid> has <size>",
        ),
        ("OSError: cannot bind 127.0.0.1:8000", "OSError: cannot bind 127.0.0.1:<port>"),
        ("\x1b[31mValueError\x1b[0m: \x1b[1mbad\x1b[0m", "ValueError: bad"),
        ("no openai/gpt-oss-120b at 3 tokens/s", "no openai/gpt-oss-120b at 3 tokens/s"),
        ("torch._dynamo.exc.Unsupported: generator", "Unsupported: generator"),
        ("a log line\nFailed: DID NOT RAISE", "Failed: DID NOT RAISE"),
        ("Exit: no GPU", "Exit: no GPU"),
        ("binascii.Error: Incorrect padding", "binascii.Error: Incorrect padding"),
        ("a.b.c.Exception", "c.Exception"),
        (INVALID, f"ValidationError: 1 validation error for ModelConfig: {UNKNOWN}"),
        (
            INVALID.replace("\n", "\n(EngineCore_0 pid=7) ERROR 11-22 18:00:00 [core.py:8] "),
            f"ValidationError: 1 validation error for ModelConfig: {UNKNOWN}",
        ),
        (
            "E   ValidationError: 2 validation errors for Config\nE   block_size\n"
            "E     Input should be a valid integer [type=int_type, input_value=<X at 0x7f>, "
            "input_type=X]\nE   seed\nE     Field required\n",
            "ValidationError: 2 validation errors for Config: block_size: Input should be a valid "
            "integer",
        ),
        (
            "ValidationError: 1 validation error for Config\n\ntests/x.py:1: ValidationError",
            "ValidationError: 1 validation error for Config",
        ),
        (
            NOT_COMPILED,
            "InductorError: CppCompileError: C++ compile error: fatal error: omp.h: No such file "
            "or directory",
        ),
        (
            NOT_COMPILED.replace("fatal error: omp.h", "note: omp.h"),
            "InductorError: CppCompileError: C++ compile error: In file included from "
            "<path>:<line>:",
        ),
        ("CppCompileError: C++ compile error\n", "CppCompileError: C++ compile error"),
    ],
)  # fmt: skip
def test_what_a_failure_is(text: str, wanted: str) -> None:
    assert signature(text) == wanted


def failure(address: int, folder: str, pid: int, port: int, seconds: float, line: int) -> str:
    return (
        f"(EngineCore_0 pid={pid}) ERROR 11-22 18:{pid % 60:02}:00 [core.py:{line}] Traceback\n"
        f'  File "/{folder}/vllm/core.py", line {line}, in run\n'
        f"RuntimeError: worker pid {pid} at <Engine object at {address:#x}> on port {port} died"
        f" after {seconds:.2f} s at 2026-11-22T18:{pid % 60:02}:00Z (hash {address:016x}1),"
        f" see '/{folder}/log.txt' and /{folder}/core.py:{line}\n"
    )


folders = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-/", min_size=1, max_size=30).map(
    lambda text: "x" + text.replace("//", "/").rstrip("/")
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


def test_failures_that_differ_have_signatures_that_differ() -> None:
    assert signature("ValueError: 33 graphs") != signature("ValueError: 30 graphs")
    assert signature("ValueError: x") != signature("KeyError: x")


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        (
            "ValueError: Free memory on device cuda:0 (1.2/79.1 GiB) on startup is less than"
            " desired GPU memory utilization (0.25, 19.78 GiB).",
            "ValueError: Free memory on device cuda:3 (11/79.1 GiB) on startup is less than"
            " desired GPU memory utilization (0.25, 35.5 GiB).",
            "ValueError: Free memory on device cuda:<device> (<size>/<size>) on startup is less"
            " than desired GPU memory utilization (0.25, <size>).",
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a"
            " total capacity of 79.11 GiB of which 1.62 MiB is free. Process 12 has 8.00 GiB memory"
            " in use. Process 13 has 3.00 GiB memory in use. Of the allocated memory",
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 7 has a"
            " total capacity of 79.11 GiB of which 1.62 GiB is free. Of the allocated memory",
            "OutOfMemoryError: CUDA out of memory. Tried to allocate <size>. GPU <device> has a"
            " total capacity of <size> of which <size> is free. Of the allocated memory",
        ),
        (
            "RuntimeError: Unable to determine the device handle for GPU0: 0000:3B:00.0: GPU is"
            " lost",
            "RuntimeError: Unable to determine the device handle for GPU3: 00000000:10:00.0: GPU is"
            " lost",
            "RuntimeError: Unable to determine the device handle for GPU<device>: <bus>: GPU is"
            " lost",
        ),
        (
            "torch.AcceleratorError: CUDA error: an illegal memory access was encountered\nSearch"
            " for `cudaErrorIllegalAddress' in https://docs.nvidia.com/",
            "RuntimeError: x\nAcceleratorError: CUDA error: an illegal memory access was"
            " encountered\n",
            "AcceleratorError: CUDA error: an illegal memory access was encountered",
        ),
    ],
)
def test_a_failure_on_another_gpu_is_the_same(one: str, other: str, wanted: str) -> None:
    assert signature(one) == wanted
    assert signature(other) == wanted


lines = st.one_of(
    st.text(max_size=80),
    st.sampled_from([*CHAINED.splitlines(), *WORKER.splitlines()]),
    st.sampled_from([*INVALID.splitlines(), *NOT_COMPILED.splitlines(), "x.Error: y", "Exit"]),
    st.from_regex(r"([a-z]{1,3}\.){0,2}[A-Z][a-z]{0,3}Error: .{0,40}", fullmatch=True),
    st.text("0123456789abcdefx/:. '\"<>-", min_size=290, max_size=320),
)


@settings(deadline=None)
@given(st.lists(lines, max_size=6).map("\n".join))
@example(CHAINED)
@example(WORKER)
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


def test_the_examples_of_the_docstrings() -> None:
    assert doctest.testmod(signatures).failed == 0
