import doctest
import re
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from matrix.record import signature as signature_package
from matrix.record.model import Case, Outcome, clip_failure
from matrix.record.signature import REASON_LIMIT, SIGNATURE_LIMIT, reason, signature, signature_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CORPUS = Path(__file__).parents[1] / "failures"
INDEX: dict[str, dict[str, str]] = tomllib.loads(
    (CORPUS / "signatures.toml").read_text(encoding="utf-8")
)
FAILURES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(CORPUS.glob("*.txt"))}

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
CONFIG = "vllm/config.py:create_model_config"
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


TRACED = """\
Traceback (most recent call last):
  File "/x/site-packages/torch/_dynamo/convert_frame.py", line 12, in _compile
  File "/x/site-packages/torch/_dynamo/exc.py", line 7, in unimplemented
torch._dynamo.exc.Unsupported: generator

from user code:
   File "/x/site-packages/vllm/model_executor/models/llama.py", line 3, in forward
    x = [each for each in self.layers()]
  File "/x/site-packages/torch/nn/modules/module.py", line 1775, in _call_impl
    return forward_call(*args, **kwargs)

Set TORCHDYNAMO_VERBOSE=1 for the internal stack trace
"""
RAISED = """\
Traceback (most recent call last):
  File "/x/site-packages/vllm/compilation/backends.py", line 12, in __call__
  File "/x/site-packages/torch/_dynamo/output_graph.py", line 7, in _call_user_compiler
torch._dynamo.exc.BackendCompilerFailed: backend='inductor' raised:
KeyError: 'x'
"""
KERNEL = "RuntimeError: no kernel {} of submod_{} in /x/torchinductor/ab/c{}.py at tmp{}, arg{}_1"
GROUPED = """\
  + Exception Group Traceback (most recent call last):
  |   File "/x/site-packages/vllm/engine.py", line 3, in run
  | ExceptionGroup: two (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Exception Group Traceback (most recent call last):
    |   File "/x/site-packages/vllm/worker.py", line 3, in go
    | exceptiongroup.ExceptionGroup: inner (2 sub-exceptions)
    +-+---------------- 1 ----------------
      | Traceback (most recent call last):
      |   File "/x/site-packages/vllm/load.py", line 3, in load
      | zmq.error.Again
      +---------------- 2 ----------------
      | ValueError: second
      +------------------------------------
    +---------------- 2 ----------------
    | ValueError: third
    +------------------------------------
"""


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
    for told in (one, other):
        moved = re.sub(r"(?<=[ '])/\w+/", "/srv/elsewhere/7/", told)
        assert signature(moved) == signature(told) == signature(signature(told))


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
    assert {signature(each) for each in told} == told


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
    """The names of a module that says it was installed."""
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


def test_the_corpus_is_whole_and_names_nobody() -> None:
    assert FAILURES.keys() == INDEX.keys()
    assert len(FAILURES) >= 25
    for name, text in FAILURES.items():
        assert not re.search(r"/(?:home|root|Users|tmp)/", text), name
        assert INDEX[name]["from"]


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_of_the_corpus_has_its_signature(name: str) -> None:
    wanted, text = INDEX[name]["signature"], FAILURES[name]
    assert signature(text) == wanted
    assert signature(wanted) == wanted
    written = Case(
        case="x",
        outcome=Outcome(INDEX[name].get("outcome", "failed")),
        failure=text,
        signature="of old",
    )
    assert signature_of(written) == wanted


@pytest.mark.parametrize(
    "names",
    [
        ("cuda-library-deepseek", "cuda-library-glm", "cuda-library-moe-fork"),
        ("unknown-model-torch29", "unknown-model-torch211"),
        ("driver-too-old-kimi", "driver-too-old-glm"),
        ("undefined-parse-schema-1", "undefined-parse-schema-2"),
        ("hash-tp-1", "hash-tp-2"),
        ("python-3.10", "python-3.11", "python-3.12", "python-3.13"),
        ("group-3.11", "group-3.12", "group-3.13"),
    ],
)
def test_one_defect_has_one_signature(names: tuple[str, ...]) -> None:
    assert len({signature(FAILURES[name]) for name in names}) == 1


def test_different_defects_of_the_corpus_differ() -> None:
    told = {signature(FAILURES[name]) for name in FAILURES}
    same = sum(count - 1 for count in (3, 2, 2, 2, 2, 4, 3))
    assert len(told) == len(FAILURES) - same


@settings(deadline=None, max_examples=200)
@given(
    name=st.sampled_from(sorted(FAILURES)),
    folder=st.from_regex(r"/[a-z]{1,8}(/[a-z0-9_.]{1,12}){0,3}", fullmatch=True),
    number=st.integers(1, 4_000_000),
    minute=st.integers(0, 59),
    python=st.integers(10, 14),
    carets=st.booleans(),
)
def test_another_run_of_a_failure_has_its_signature(
    name: str, folder: str, number: int, minute: int, python: int, carets: bool
) -> None:
    assume(name != "hang")  # its frames are told last
    text = FAILURES[name]
    text = re.sub(r"(?<=, line )\d+", str(number), text)
    text = re.sub(r"pid=\d+", f"pid={number}", text)
    text = re.sub(r"\b0x[0-9a-f]+", hex(number), text)
    text = re.sub(r"\b(\d\d-\d\d \d\d):\d\d:", rf"\1:{minute:02}:", text)
    text = re.sub(
        r'(?<=File ")[^"\n]*site-packages/',
        f"{folder}/lib/python3.{python}/site-packages/",
        text,
    )
    if not carets:
        text = re.sub(r"(?m)^(?:\(.*\])?[ |]*[~^]+\n", "", text)
    assert signature(text) == INDEX[name]["signature"]


def test_a_case_tells_by_todays_rules() -> None:
    old = Case(case="x", outcome=Outcome.FAILED, failure=CHAINED, signature="KeyError: <id>")
    assert signature_of(old) == "KeyError: <id> @ vllm/backends.py:load"
    assert (
        signature_of(Case(case="x", outcome=Outcome.FAILED, signature="as written")) == "as written"
    )
    assert (
        signature_of(Case(case="x", outcome=Outcome.FAILED, failure=" \n", signature="as written"))
        == "as written"
    )
    assert signature_of(Case(case="x", outcome=Outcome.PASSED)) is None
    assert signature_of(Case(case="x", outcome=Outcome.PASSED, failure=CHAINED)) is None


@pytest.mark.parametrize("outcome", ["crashed", "timed_out"])
def test_an_error_that_was_only_logged_is_not_why_a_process_died(outcome: str) -> None:
    case = Case(
        case="x",
        outcome=Outcome(outcome),
        failure=CHAINED,
        signature="pytest was killed by SIGKILL",
    )
    assert signature_of(case) == "pytest was killed by SIGKILL"
    case = Case(
        case="x", outcome=Outcome(outcome), failure=f"{CHAINED}killed by SIGSEGV", signature="old"
    )
    assert signature_of(case) == "killed by SIGSEGV"


def test_the_tail_of_a_failure_is_enough() -> None:
    text = FAILURES["cuda-library-deepseek"]
    cut = clip_failure("a line of a log\n" * 2000 + text)
    assert signature(cut) == signature(text)


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


def test_a_long_line_takes_no_long_time() -> None:
    for each in ("a/" * 200_000, "a." * 200_000, "1" * 400_000, "\x1b[" * 200_000):
        assert len(signature(each)) <= SIGNATURE_LIMIT
        assert len(reason(each)) <= REASON_LIMIT


def test_the_examples_of_the_docstrings() -> None:
    assert doctest.testmod(signature_package).failed == 0
