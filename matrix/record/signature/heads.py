"""Heads and ends of lines: what a terminal, a log, a container or a CI service puts around a text.

Each head is known by its form, never by the names in it: a service, a host, a pod, a process, a
job or a logger has any name. A head ends with one space, and what follows keeps its indentation.
"""

from __future__ import annotations

import re

_TIME = (
    r"\d{4}(?:-\d\d-|/\d\d/)\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
    r"(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?(?![\w.:,-])"
)
_LEVEL = (
    r"(?:TRACE|DEBUG|INFO|NOTICE|SUCCESS|SUCC|WARN(?:ING)?|ERR(?:OR)?|CRITICAL|FATAL|EXCEPTION)\b"
)
_NAME = r"[\w.@/:-]{1,120}"
_JOURNAL = rf"{_NAME} {_NAME}\[\d{{1,9}}\]: ?"
_HEADS = (
    r"\ufeff",
    r"E   +",  # pytest marks the lines of an error so
    # vLLM's and Ray's processes: (EngineCore pid=12), (RayWorkerWrapper pid=12, ip=10.0.0.9)
    (
        r"\((?:[\w.:=+<>() -]{1,120} )?pid=(?:\d{1,9}|gcs_server|raylet)"
        r"(?:, \w{1,20}=[\w.:-]{1,60}){0,4}\) ?"
    ),
    r"\((?:raylet|gcs_server|autoscaler \+\w{1,20})(?:, ip=[\w.:]{1,45})?\) ?",
    # vLLM's log: ERROR 11-22 18:00:00.123 [core.py:842]
    (
        rf"{_LEVEL} (?:\d{{4}}-)?\d\d-\d\d [\d:]{{5,8}}(?:[.,]\d{{1,9}})?"
        r" (?:\[[^\]]{0,200}\]|[\w./]{1,200}:\d+\]) ?"
    ),
    # torchrun's and PyTorch's ranks: [rank0]:, [default3]:[rank3]:
    r"(?:[\w.-]{1,60}/\d+ )?\[(?:rank|default|trainer|worker|Stage-)\d{1,6}\]:? ?",
    # torch's log: W0225 03:39:37.849000 1394121 torch/_dynamo/convert_frame.py:1125] [1/0]
    (
        r"\[?[VDIWEFC]\d{4} [\d:.]{8,18}(?: +\d{1,10})? [\w./-]{1,200}:\d+\]"
        r" ?(?:\[\d+/\d[\d_]*\] ?)?"
    ),
    # journalctl, by its formats short, short-iso and short-monotonic; syslog
    (
        r"(?:<\d{1,3}>)?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})? [\w.-]{1,120} "
        rf"{_NAME}?(?:\[\d{{1,9}}\])?: ?"
    ),
    rf"(?:{_TIME}|\[ *\d{{1,9}}\.\d{{6}}\]) {_JOURNAL}",
    r"\[ *\d{1,9}\.\d{6}\] ",
    r"\[\d{1,4},\d{1,6}\]<std(?:out|err)>: ?",  # mpirun
    r" {0,4}\d{1,5}: (?=\S| )",  # srun --label
    # Kubernetes: the runtime's own format, kubectl's and stern's
    rf"{_TIME} std(?:out|err) [FP] ?",
    r"\[(?:pod|container)/[^\]\s]{1,250}\] ?",
    r"[a-z0-9][a-z0-9.-]{0,200}-[a-z0-9]{8,10}-[a-z0-9]{5} [a-z0-9-]{1,63} ",
    # GitHub's and GitLab's: the names of job and step, the time, the stream
    rf"(?:[^\t]{{1,120}}\t){{1,2}}(?=\ufeff?{_TIME})",
    rf"{_TIME} \d\d[OE][ +]?",
    r"##\[[a-z]{1,20}\]",
    # Python's loggers, as Ray, sglang, loguru and others set them up
    (
        rf"{_TIME}[ \t]+(?:-[ \t]+{_NAME}[ \t]+)?-[ \t]+{_LEVEL}[ \t]+-[ \t]?"
        r"(?:[\w.]{1,120}\.py:\d+ - )?"
    ),
    rf"{_TIME} \| {_LEVEL} *\| [\w.<>:-]{{1,200}} - ?",
    rf"{_TIME}[ \t]+{_LEVEL}[ \t]+[\w./<>-]{{1,200}}:\d+ (?:--|-|:)[ \t]?",
    rf"{_TIME} [\w.]{{1,120}} \d{{1,9}} {_LEVEL} *",
    rf"{_TIME}[ \t]+\[?{_LEVEL}\]?:?(?! (?:\d{{4}}-)?\d\d-\d\d )[ \t]?",
    rf"\[?{_LEVEL}\]?[ \t]+(?={_TIME})",
    (
        rf"\[{_TIME}[^\]]{{0,60}}\](?: \[{_LEVEL} *\])?(?: \[[\w./]{{1,200}}:\d+(?::\w+)?\])?"
        r"(?: [\w/]{1,200}\.(?:cc|h):\d+:)?:? ?"
    ),
    rf"{_TIME} ?",
    r"\[?\d\d:\d\d:\d\d(?:[.,]\d{1,9})?\]? ",
    rf"{_LEVEL}:(?: {{4}}|[A-Za-z_][\w.]{{0,120}}:)",
    # docker build: #12 9.622
    r"(?:#\d{1,4} )?\d{1,6}\.\d{1,3} (?=\S| )",
    # docker compose, docker service, podman-compose: the service, and a bar
    r"\[?[\w.@-]{1,120}\]? +\|(?: |$)",
)
_HEAD = re.compile("|".join(_HEADS))
_MOST_HEADS = 12
# vLLM's own heads are heads also where the whole of a log was moved to the right.
_MARGIN = re.compile(
    rf"[\s|]{{1,80}}(?=(?:\[Stage-\d{{1,3}}\] )?{_LEVEL} \d\d-\d\d \d\d:\d\d:\d\d"
    r"|\(\w{1,60} pid=\d)"
)
_INFORMS = re.compile(r"(?:INFO|DEBUG) \d\d-\d\d \d\d:")
_ASSERT = re.compile(r"^E +assert ")
# tqdm: a description, a bar, how far it is, and how long it took.
_PROGRESS = re.compile(
    r"[^|]{0,200}?\d%[^|]{0,20}\|(?:[^|]{0,300}\|)?[^|\[]{0,60}\[[^\[\]]{0,120}\]"
)
# Ray ends a line so that it saw several times; how often depends on the run.
_REPEATED = re.compile(
    r" *\[repeated \d{1,9}x across (?:the )?cluster\](?: \(Ray deduplicates logs.*)?"
)


def without_heads(line: str, *, below_error: bool) -> str:
    """Return the line without its heads, ends and the bar of a progress.

    `E  assert ...` of pytest becomes an error, except right below one. What vLLM only informs of is
    indented: it ends no traceback that another process writes at the same time.
    """
    informs = False
    for _ in range(_MOST_HEADS):
        if line[:1] in (" ", "|") and (found := _MARGIN.match(line)):
            line = line[found.end() :]
        # Most lines of a trace are indented, and nothing stands before those.
        if line[:1].isspace():
            break
        if line.startswith("E ") and not below_error:
            line = _ASSERT.sub("AssertionError: assert ", line)
        found = _HEAD.match(line)
        if found is None:
            break
        informs = informs or bool(_INFORMS.match(line))
        line = line[found.end() :]
    line = f" {line}" if informs else line
    if "%" in line and (found := _PROGRESS.match(line)):
        line = line[found.end() :]
    if "[repeated " in line:
        line = _REPEATED.sub("", line)
    return line
