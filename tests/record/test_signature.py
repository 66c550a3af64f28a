import re
import sys
import traceback
from typing import Any

import pytest

from failure_texts import (
    CHAINED,
    CONFIG,
    GROUPED,
    HANDLED,
    INVALID,
    KERNEL,
    NOT_COMPILED,
    RAISED,
    TRACED,
    UNKNOWN,
    WORKER,
)
from matrix.record.signature import signature


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ""),
        ("\n \n", ""),
        ("KeyboardInterrupt", "KeyboardInterrupt"),
        (CHAINED, "KeyError: <id> @ vllm/backends.py:load"),
        (HANDLED, "RuntimeError: cannot load the compiled graph @ vllm/core.py:run"),
        (WORKER, "RuntimeError: operator torchvision::nms does not exist"),
        (
            "RuntimeError: Engine core initialization failed. See root cause above.",
            "RuntimeError: Engine core initialization failed. See root cause above.",
        ),
        (
            "ImportError: /home/joe/site-packages/vllm/_C.abi3.so: undefined symbol: _ZN3c104cudaE",
            "ImportError: _C.abi3.so: undefined symbol: _ZN3c104cudaE",
        ),
        (
            "ImportError: /x/site-packages/vision/_C.cpython-312-x86_64-linux-gnu.so: undefined",
            "ImportError: _C.so: undefined",
        ),
        (
            ("E       AssertionError: warm start\nE       assert 3 == 0\n\n"
            "tests/startup/test_x.py:12: AssertionError"),
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
        (INVALID, f"ValidationError: 1 validation error for ModelConfig: {UNKNOWN} @ {CONFIG}"),
        (
            INVALID.replace("\n", "\n(EngineCore_0 pid=7) ERROR 11-22 18:00:00 [core.py:8] "),
            f"ValidationError: 1 validation error for ModelConfig: {UNKNOWN} @ {CONFIG}",
        ),
        (
            ("E   ValidationError: 2 validation errors for Config\nE   block_size\n"
            "E     Input should be a valid integer [type=int_type, input_value=<X at 0x7f>, "
            "input_type=X]\nE   seed\nE     Field required\n"),
            ("ValidationError: 2 validation errors for Config: block_size: Input should be a valid "
            "integer"),
        ),
        (
            "ValidationError: 1 validation error for Config\n\ntests/x.py:1: ValidationError",
            "ValidationError: 1 validation error for Config",
        ),
        (
            NOT_COMPILED,
            "CppCompileError: C++ compile error: fatal error: omp.h: No such file or directory",
        ),
        (
            NOT_COMPILED.replace("fatal error: omp.h", "note: omp.h"),
            "CppCompileError: C++ compile error: In file included from <path>:<line>:",
        ),
        ("CppCompileError: C++ compile error\n", "CppCompileError: C++ compile error"),
    ],
)  # fmt: skip
def test_what_a_failure_is(text: str, wanted: str) -> None:
    assert signature(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (TRACED, "Unsupported: generator @ vllm/model_executor/models/llama.py:forward"),
        (TRACED.partition("\nfrom")[0],
         "Unsupported: generator @ torch/_dynamo/exc.py:unimplemented"),
        (RAISED, "KeyError: 'x' @ vllm/compilation/backends.py:__call__"),
        (GROUPED, "Again @ vllm/load.py:load"),
        (
            "W0225 03:39:37.849000 1394121 torch/_dynamo/guards.py:1125] [1/0] ValueError: x",
            "ValueError: x",
        ),

        (
            RAISED.replace("torch._dynamo.exc.B", "WARNING: x\nit is slow\ntorch._dynamo.exc.B"),
            "KeyError: 'x' @ vllm/compilation/backends.py:__call__",
        ),
        (
            RAISED.replace("_dynamo/output_graph.py", "_ops.py").replace("_call_user_", "__call__"),
            "KeyError: 'x' @ vllm/compilation/backends.py:__call__",
        ),
        (
            ("terminate called after throwing an instance of 'std::bad_alloc'\n"
            "the process exited with status 3 before the test ended"),
            "the process exited with status 3 before the test ended",
        ),
        ("[2026-06-15T10:00:00.123Z] [rank0]: ValueError: x", "ValueError: x"),
        (
            KERNEL.format("triton_poi_fused_add_mul_3", 7, "a2" * 25, "0a_b1c2d", 12),
            ("RuntimeError: no kernel triton_poi_fused_<kernel> of submod_<n> in <path> at <tmp>, "
            "arg<n>"),
        ),
        ("KeyError: '__compiled_fn_3_5c7a9b0e_12ab_4cd3_9e8f_0123456789ab'",
         "KeyError: '__compiled_fn_<n>'"),
        ("NameError: name 'a' is not defined. Did you mean: 'b'?",
         "NameError: name 'a' is not defined"),
        ("NameError: name 'sys' is not defined. Did you forget to import 'sys'?",
         "NameError: name 'sys' is not defined"),
        ("OSError: cannot reach tcp://10.0.149.9:29500", "OSError: cannot reach tcp://<host>:<port>"),
        ("a log\nKeyError: 'x'\ntimed out after 100 s", "timed out after <time>"),
        ("KeyError: 'x'\nkilled by SIGKILL (out of memory: the kernel's OOM killer)",
         "killed by SIGKILL (out of memory: the kernel's OOM killer)"),
        ("KeyError: 'x'\nthe process exited with status 3 before the test ended",
         "the process exited with status 3 before the test ended"),
        (("tests/startup/test_x.py:7: in test_x\n    go()\nsite-packages/vllm/y.py:3: in go\n"
         "    raise ValueError('z')\nE   ValueError: z"), "ValueError: z @ vllm/y.py:go"),
    ],
)  # fmt: skip
def test_where_a_failure_is(text: str, wanted: str) -> None:
    assert signature(text) == wanted
    assert signature(wanted) == wanted


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("FileNotFoundError: [Errno 2] No such file or directory: '/models/a/config.json'",
         "FileNotFoundError: [Errno 2] No such file or directory: '/cache/artifact.bin'"),
        ("OSError: cannot open /x/tokenizer.model", "OSError: cannot open /x/config.json"),
    ],
)  # fmt: skip
def test_which_file_is_meant_makes_a_difference(one: str, other: str) -> None:
    assert signature(one) != signature(other)
    for text in (one, other):
        moved = re.sub(r"(?<=[ '])/\w+/", "/srv/elsewhere/7/", text)
        assert signature(moved) == signature(text) == signature(signature(text))


@pytest.mark.parametrize(
    "texts",
    [
        ("UnboundLocalError: local variable 'x' referenced before assignment",
         ("UnboundLocalError: cannot access local variable 'x' where it is not associated with a"
         " value")),
        ("NameError: free variable 'x' referenced before assignment in enclosing scope",
         ("NameError: cannot access free variable 'x' where it is not associated with a value in"
         " enclosing scope")),
        ("TypeError: Can't instantiate abstract class A with abstract method bar",
         ("TypeError: Can't instantiate abstract class A without an implementation for abstract"
         " method 'bar'")),
        ("TypeError: Can't instantiate abstract class A with abstract methods bar, baz",
         ("TypeError: Can't instantiate abstract class A without an implementation for abstract"
         " methods 'bar', 'baz'")),
        ("AttributeError: 'A' object has no attribute 'x'",
         ("AttributeError: 'A' object has no attribute 'x' and no __dict__ for setting new"
         " attributes")),
        ("TypeError: 'foo' is an invalid keyword argument for int()",
         "TypeError: int() got an unexpected keyword argument 'foo'"),
        ("ValueError: max() arg is an empty sequence",
         "ValueError: max() iterable argument is empty"),
        ("TypeError: string indices must be integers",
         "TypeError: string indices must be integers, not 'str'"),
        ("KeyError: unknown among {'b', 'a', 'c'}", "KeyError: unknown among {'c', 'b', 'a'}"),
        ("RuntimeError: Worker_TP0 of rank 0 died", "RuntimeError: Worker_TP1 of rank 1 died"),
    ],
)  # fmt: skip
def test_other_words_or_another_order_are_the_same_failure(texts: tuple[str, ...]) -> None:
    told = {signature(text) for text in texts}
    assert len(told) == 1
    assert {signature(text) for text in told} == told


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("/src/vllm/vllm/config/model.py", "vllm/config/model.py"),
        ("/build/triton/vllm/vllm/config.py", "vllm/config.py"),
        ("/src/flashinfer/triton/activation.py", "flashinfer/triton/activation.py"),
    ],
)
def test_a_checkout_is_not_part_of_where(file: str, module: str) -> None:
    told = f'Traceback (most recent call last):\n  File "{file}", line 3, in go\nKeyError: 1'
    assert signature(told) == f"KeyError: 1 @ {module}:go"


def load(name: str, source: str) -> dict[str, Any]:
    """Return the names of a module that says it was installed."""
    space: dict[str, Any] = {"__name__": name}
    exec(compile(source, f"/opt/cell/lib/python3/site-packages/{name}", "exec"), space)  # noqa: S102 (sources of this test)
    return space


def test_every_python_tells_the_same() -> None:
    attention = load(
        "vllm/attention.py",
        "class Backend:\n"
        "    def get_name(self): return 1\n"
        "def choose(backends):\n"
        "    return [backend.get_nam() for backend in backends]\n",
    )
    wrap = load(
        "torch/utils/_contextlib.py",
        "def wrap(f):\n    def decorate_context(*a): return f(*a)\n    return decorate_context\n",
    )["wrap"]
    try:
        wrap(attention["choose"])([attention["Backend"]()])
    except AttributeError as error:
        if sys.version_info >= (3, 11):
            error.add_note("KeyError: a note")
        told = traceback.format_exc()
    assert signature(told) == (
        "AttributeError: 'Backend' object has no attribute 'get_nam' @ vllm/attention.py:choose"
    )


def test_failures_that_differ_have_signatures_that_differ() -> None:
    assert signature("ValueError: 33 graphs") != signature("ValueError: 30 graphs")
    assert signature("ValueError: x") != signature("KeyError: x")


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        (
            (
                "ValueError: Free memory on device cuda:0 (1.2/79.1 GiB) on startup is less than"
                " desired GPU memory utilization (0.25, 19.78 GiB)."
            ),
            (
                "ValueError: Free memory on device cuda:3 (11/79.1 GiB) on startup is less than"
                " desired GPU memory utilization (0.25, 35.5 GiB)."
            ),
            (
                "ValueError: Free memory on device cuda:<device> (<size>/<size>) on startup is less"
                " than desired GPU memory utilization (0.25, <size>)."
            ),
        ),
        (
            (
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has"
                " a total capacity of 79.11 GiB of which 1.62 MiB is free. Process 12 has 8.00 GiB"
                " memory in use. Process 13 has 3.00 GiB memory in use. Of the allocated memory"
            ),
            (
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 7 has"
                " a total capacity of 79.11 GiB of which 1.62 GiB is free. Of the allocated memory"
            ),
            (
                "OutOfMemoryError: CUDA out of memory. Tried to allocate <size>. GPU <device> has a"
                " total capacity of <size> of which <size> is free. Of the allocated memory"
            ),
        ),
        (
            (
                "RuntimeError: Unable to determine the device handle for GPU0: 0000:3B:00.0: GPU is"
                " lost"
            ),
            (
                "RuntimeError: Unable to determine the device handle for GPU3: 00000000:10:00.0:"
                " GPU is lost"
            ),
            (
                "RuntimeError: Unable to determine the device handle for GPU<device>: <bus>: GPU is"
                " lost"
            ),
        ),
        (
            (
                "torch.AcceleratorError: CUDA error: an illegal memory access was encountered\n"
                "Search for `cudaErrorIllegalAddress' in https://docs.nvidia.com/"
            ),
            (
                "RuntimeError: x\nAcceleratorError: CUDA error: an illegal memory access was"
                " encountered\n"
            ),
            "AcceleratorError: CUDA error: an illegal memory access was encountered",
        ),
    ],
)
def test_a_failure_on_another_gpu_is_the_same(one: str, other: str, wanted: str) -> None:
    assert signature(one) == wanted
    assert signature(other) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (" @ torch/x.py:f", " @ torch/x.py:f"),
        # What is no group of exceptions keeps its bars, and a group is one however it was printed.
        ("Error: a\n" + "x" * 5000 + "Exception Group Traceback\n  | ValueError: b", "Error: a"),
        ("(Exception Group Traceback pid=1) | ValueError: b", "| ValueError: b"),
        ("Exception\x01Group Traceback (most recent call last):\n | KeyError: b", "KeyError: b"),
    ],
)
def test_an_odd_text_has_a_signature(text: str, wanted: str) -> None:
    assert signature(text) == wanted
