"""How torch, vLLM, Python, pytest and the system write failures."""

import re
from collections.abc import Sequence

LINE_LIMIT = 4096
ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
PREFIX = re.compile(
    r"^(?:"
    r"E   +"  # pytest marks the lines of an error so
    r"|\([\w =-]{1,80} pid=\d{1,9}(?:, ip=[\d.]{1,15})?\) ?"  # vLLM and Ray, those of workers
    r"|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d [\d:]+ (?:\[[^\]]*\]|[\w./]+:\d+\]) ?"
    r"|\[rank\d+\]: ?"
    # torch's log: W0225 03:39:37.849000 1394121 torch/_dynamo/convert_frame.py:1125] [1/0]
    r"|[VDIWE]\d{4} [\d:.]+ \d+ [\w./-]+:\d+\] ?(?:\[\d+/\d[\d_]*\] ?)?"
    r"|\[?\d{4}-\d\d-\d\dT[\d:.]+Z\]? "  # CI services put the time before each line
    r")"
)
MEMBER = re.compile(r"(?P<indent> *)\+(?:-\+)?-{4,} (?P<number>\d+|\.\.\.) -{4,}")
MEMBERS_END = re.compile(r"(?P<indent> *)\+-{20,}")
BAR = re.compile(r"^ *(?:\| ?|\+ (?=Exception Group Traceback))")
ASSERT = re.compile(r"^E +assert ")
RAISED = re.compile(
    r"(?P<module>(?:[A-Za-z_]\w*\.)*)"
    r"(?P<type>(?:[A-Z]\w*)?"
    r"(?:Error|Exception|Exit|Interrupt|Failed|Failure|OutOfResources|Unsupported|Violation))"
    r"(?:: ?(?P<message>.*))?"
)
# What ends a traceback is an error, whatever its name: triton.runtime.errors.OutOfResources.
ENDS_TRACEBACK = re.compile(
    r"(?P<module>(?:[A-Za-z_]\w*\.)*)(?P<type>[A-Za-z_]\w*)(?:: ?(?P<message>.*))?"
)
TRACEBACK = "Traceback (most recent call last)"
BECAUSE = "The above exception was the direct cause of the following exception:"
MEANWHILE = "During handling of the above exception, another exception occurred:"
ENDED = re.compile(
    r"(?P<how>killed by \S+(?: \(out of memory[^()]*\))?"
    r"|the process exited with .{1,80} before the test ended"
    r"|timed out after \S+(?: s)?)"
    r"(?:; SIGKILL did not end \d+ of its processes)?"
)
DIED = re.compile(
    r"(?P<fatal>Fatal Python error: .*)"
    r"|.*terminate called after throwing an instance of '(?P<thrown>[^']+)'"
    r"|\s*what\(\): *(?P<what>.*)"
    r"|.*?(?P<fault>Segmentation fault|Bus error|Illegal instruction|Aborted|Killed)"
    r"(?: \(core dumped\))?\s*"
)
# Such a name says little without its module: binascii.Error.
BARE = {"Error", "Exception"}
# These say only that something else failed: where that is in the text, it is the better answer.
WRAPPERS = re.compile(
    r"root cause above|stack trace for root cause|backend=.* raised:|^\w+ failed during startup"
)
# These say what failed only in the lines below them: pydantic's, and torch's C++ compiler's.
INVALID = re.compile(r"\d+ validation errors? for \S+")
NOT_COMPILED = re.compile(r"(?:.*: )?C\+\+ compile error")
COMPILER = re.compile(r".*?(?P<said>(?:fatal )?error: (?!ld returned).*)")
INPUT = re.compile(r" \[type=\w+, input_value=.*")
NOT_TELLING = re.compile(
    r"\s*(?:For further information|Traceback|File \"|-{3,}|={3,}|_{3,})|\S+:\d+: "
)
MOST_BELOW = 400

PATH = re.compile(
    r"(?P<quote>['\"])(?:~|\.{0,2})/[^'\"\n]*(?P=quote)"
    r"|(?<![\w<>./:])(?:~|\.{1,2})?/(?:[\w.+@=~%,-]+/)*[\w.+@=~%-]+/?"
    r"|(?<![\w<>./])(?:[\w.+@=-]+/)+[\w.+@=-]+\.(?:py|pyc|so|cpp|cc|cu|h|json|toml|yaml|log)\b[\w.]*"
)
LIBRARY = re.compile(r"[^/]+\.so(?:\.\d+)*")
# A file that a person named, so that which one is missing is told: config.json, pytorch_model.bin.
NAMED = re.compile(r"[A-Za-z][A-Za-z_-]{0,40}\d?\.[a-z]{1,12}")
# A Python's own advice, which each release words otherwise.
ADVICE = re.compile(
    r"\.? (?:Or did|Did) you (?:mean|forget to import):? ['\"][^'\"]*['\"]"
    r"(?: instead of ['\"][^'\"]*['\"])?\??"
)
# What another Python says in other words; the newest one's are kept.
REWORDED: Sequence[tuple[re.Pattern[str], str]] = (
    (
        re.compile(r"\b(?:local variable (?P<name>'\w+') referenced before assignment)$"),
        r"cannot access local variable \g<name> where it is not associated with a value",
    ),
    (
        re.compile(
            r"\bfree variable (?P<name>'\w+') referenced before assignment in enclosing scope$"
        ),
        (
            r"cannot access free variable \g<name> where it is not associated with a value in"
            r" enclosing scope"
        ),
    ),
    (
        re.compile(
            r"(?P<what>\bCan't instantiate abstract class \S+) "
            r"(?:with|without an implementation for) (?P<methods>abstract methods?) "
            r"(?P<names>.*)$"
        ),
        r"\g<what> without an implementation for \g<methods> \g<names>",
    ),
    (re.compile(r" and no __dict__ for setting new attributes$"), ""),
    (
        re.compile(r"(?P<name>'\w+') is an invalid keyword argument for (?P<call>[\w.]+\(\))$"),
        r"\g<call> got an unexpected keyword argument \g<name>",
    ),
    (re.compile(r"\b(max|min)\(\) arg is an empty sequence$"), r"\1() iterable argument is empty"),
    (re.compile(r"(?<=string indices must be integers), not '\w+'$"), ""),
)
ABSTRACT = re.compile(r"(?<=abstract method )\w+$|(?<=abstract methods )\w+(?:, \w+)*$")
# The order of a set of texts changes with each process.
SET = re.compile(r"\{('[^'{}]*'(?:, '[^'{}]*')+)\}")
# Torch wraps what went wrong in these, in one release more than in another.
WRAPPED = re.compile(
    r"(?:(?:[a-z_]\w*\.)*(?:InductorError|BackendCompilerFailed|LoweringException): )+"
    r"(?=(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)\b)"
)
VARYING: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"\b(?:[0-9a-fA-F]{4,8}:)[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.\d)?\b"), "<bus>"),
    (re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<address>"),
    (re.compile(r"\.(?:cpython|pypy)-?3\d+[\w-]*(?=\.so\b)"), ""),
    (
        re.compile(r"\b__compiled_fn_\d+(?:_[0-9a-fA-F]{8}(?:_[0-9a-fA-F]+){4})?\b"),
        "__compiled_fn_<n>",
    ),
    (re.compile(r"\b(torch_dynamo_resume_in_\w+?_at)_\d+\b"), r"\1_<line>"),
    (re.compile(r"\b((?:triton|cpp)_(?:[a-z]{2,4}_)?fused)_\w+"), r"\1_<kernel>"),
    (re.compile(r"\b((?:sub|sub_)?graph|graph_module|submod|primals|tangents)_\d+\b"), r"\1_<n>"),
    (re.compile(r"\b(buf|op)\d+\b"), r"\1<n>"),
    (re.compile(r"\barg\d+_\d+\b"), "arg<n>"),
    (re.compile(r"(<eval_with_key>)\.\d+\b"), r"\1.<n>"),
    # Inductor names a file by its content's hash, in base 32; tempfile by eight random characters.
    (re.compile(r"\bc[a-z2-7]{48,54}\b"), "<generated>"),
    (re.compile(r"\btmp[a-z0-9_]{8}\b"), "<tmp>"),
    (re.compile(r"\b\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d+)?\b"), "<time>"),
    (
        re.compile(
            r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)?\b"
        ),
        "<time>",
    ),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"), "<time>"),
    (
        re.compile(r"\b\d+(?:\.\d+)? ?(?:ns|us|µs|ms|s|secs?|seconds?|min|mins|minutes?|hours?)\b"),
        "<time>",
    ),
    (re.compile(r"\b\d+(?:\.\d+)? ?[KMGT]i?B\b"), "<size>"),
    (re.compile(r"\b\d+(?:\.\d+)?/<size>"), "<size>/<size>"),
    (re.compile(r"\bcuda:\d+\b"), "cuda:<device>"),
    (re.compile(r"\bGPU( ?)\d+\b"), r"GPU\1<device>"),
    (re.compile(r"\b((?i:pid|process|thread)(?: id)?)(\s*[=:#]?\s*)\d+\b"), r"\1\2<pid>"),
    # torch names each program that holds memory of a GPU that is full.
    (re.compile(r"(?: Process <pid> has <size> memory in use\.)+"), ""),
    (re.compile(r"\b((?i:port))(\s*[=:#]?\s*)\d+\b"), r"\1\2<port>"),
    (re.compile(r"((?:\d{1,3}\.){3}\d{1,3}|\blocalhost|\[[0-9a-f:]*\]):\d+\b"), r"\1:<port>"),
    (re.compile(r"(?<![\w.])(?!127\.|0\.0\.0\.0)(?:\d{1,3}\.){3}\d{1,3}:<port>"), "<host>:<port>"),
    (re.compile(r"\b((?i:line)) \d+\b"), r"\1 <line>"),
    (re.compile(r"(<path>(?:/[\w.-]+)?|\.py):\d+(?::\d+)?\b"), r"\1:<line>"),
    (re.compile(r"\b(Worker_TP)\d+\b"), r"\1<rank>"),
    (re.compile(r"\b(rank)([ =:]{1,2})\d+\b"), r"\1\2<rank>"),
    (re.compile(r"\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}\b"), "<id>"),
)


FRAME_LIMIT = 120
FRAME = re.compile(r"""\s*File "(?P<file>[^"]+)", line \d+(?:,? in (?P<function>\S+))?\s*""")
PYTEST_FRAME = re.compile(r"(?P<file>[^\s:]+\.py):\d+: ?(?:in (?P<function>\S+)|[\w.]*)")
DEFINED = re.compile(r"[> ]\s*(?:async )?def (?P<function>\w+)\(.*")
CRASHED = "Fatal Python error:"
THREAD = re.compile(r"Current thread .*\(most recent call first\):")
USER_CODE = "from user code:"
# Of these the frames of the code that was traced say more than those of the tracer.
TRACED = re.compile(r"torch\._dynamo\.exc\.(?!BackendCompilerFailed|InternalTorchDynamoError)")
SIGNED = re.compile(r"(?P<said>.*) @ (?P<where>(?:[\w.<>+-]+/)+[\w.<>+-]+\.py:[\w<>]+…?|…\S+)")

INSTALLED = re.compile(r".*(?:site|dist)-packages/")
STANDARD = re.compile(r"(?:.*/)?lib(?:64)?/python3\.\d+/")
PACKAGES = frozenset(
    ("flashinfer", "matrix", "torch", "torchaudio", "torchvision", "transformers", "triton", "vllm")
)
# What only passes a call on, and stands innermost for faults of every kind.
PLUMBING_FILES = re.compile(
    r"(?:_pytest|pluggy|pytest|pydantic|typing_extensions)\b.*"
    r"|torch/_(?:compile|ops|utils_internal)\.py|torch/overrides\.py"
    r"|torch/_dynamo/(?:convert_frame|eval_frame|repro/\w+)\.py"
    r"|torch/fx/(?:graph_module|_lazy_graph_module|interpreter)\.py"
    r"|torch/utils/(?:_contextlib|_device|_python_dispatch)\.py"
    r"|torch/distributed/c10d_logger\.py"
    r"|vllm/tracing/.*"
)
PLUMBING_FUNCTIONS = frozenset(
    (
        "__getattr__",
        "__getattribute__",
        "__torch_dispatch__",
        "__torch_function__",
        "_call_impl",
        "_call_user_compiler",
        "_child",
        "_compile",
        "_compile_inner",
        "_fn",
        "_inner",
        "_wrapped_call_impl",
        "_wrapper",
        "async_wrapper",
        "call_user_compiler",
        "compile_inner",
        "decorate_context",
        "inner",
        "sync_wrapper",
        "time_wrapper",
        "wrapped",
        "wrapper",
        "wrapper_function",
        # Python 3.12 has no frame of its own for these any more (PEP 709).
        "<dictcomp>",
        "<listcomp>",
        "<setcomp>",
    )
)
