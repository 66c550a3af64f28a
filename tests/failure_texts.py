"""Texts of failures for the tests of signatures: short ones, and the corpus in tests/failures."""

import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CORPUS = Path(__file__).parent / "failures"
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
