"""GitHub's runner, as far as a workflow needs it here: jobs in their order, and their `run` lines.

Each job gets a fresh clone, and each step the environment, the condition and the outputs that it
has on GitHub. Of the actions, artifacts are folders on this disk, and the rest does nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_Context = Mapping[str, Any]
_TOKEN = re.compile(r"\s*(\|\||&&|==|!=|!|\(|\)|,|'(?:[^']|'')*'|[\w.-]+(?:\.\*)?)")
_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)


class Expression:
    """One expression of GitHub's, evaluated by its own rules as far as the workflow uses them."""

    def __init__(self, text: str, contexts: Mapping[str, Any]) -> None:
        self._tokens = _TOKEN.findall(text)
        assert "".join(self._tokens) == re.sub(r"\s(?=(?:[^']*'[^']*')*[^']*$)", "", text), text
        self._contexts = contexts

    def value(self) -> Any:
        found = self._either()
        assert not self._tokens, self._tokens
        return found

    def _next(self, *wanted: str) -> str | None:
        return self._tokens.pop(0) if self._tokens and self._tokens[0] in wanted else None

    def _either(self) -> Any:
        found = self._both()
        while self._next("||"):
            other = self._both()
            found = found or other
        return found

    def _both(self) -> Any:
        found = self._compared()
        while self._next("&&"):
            other = self._compared()
            found = found and other
        return found

    def _compared(self) -> Any:
        found = self._one()
        while sign := self._next("==", "!="):
            found = (_text(found) == _text(self._one())) is (sign == "==")
        return found

    def _one(self) -> Any:
        if self._next("!"):
            return not self._one()
        if self._next("("):
            found = self._either()
            assert self._next(")")
            return found
        token = self._tokens.pop(0)
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        if self._next("("):
            given = [] if self._next(")") else [self._either()]
            assert not given or self._next(")")
            return self._call(token, given)
        found = self._contexts
        for name in token.split("."):
            found = found.get(name, "") if isinstance(found, Mapping) else ""
        return found

    @staticmethod
    def _call(name: str, given: list[Any]) -> Any:
        if name == "fromJSON":
            return json.loads(given[0])
        return {"always": True, "cancelled": False}[name]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def expanded(value: Any, contexts: Mapping[str, Any]) -> Any:
    """Return a value of the workflow with its expressions evaluated."""
    if not isinstance(value, str):
        return value
    whole = _EXPRESSION.fullmatch(value.strip())
    if whole:
        return Expression(whole[1], contexts).value()
    return _EXPRESSION.sub(lambda found: _text(Expression(found[1], contexts).value()), value)


def condition(text: str | None, contexts: Mapping[str, Any], *, failed: bool) -> bool:
    """Return whether a job or a step runs: without a word of failures, not after one."""
    if text is None:
        return not failed
    inner = text.removeprefix("${{").removesuffix("}}")
    holds = bool(Expression(inner, contexts).value())
    return holds and (not failed or "always()" in inner or "cancelled()" in inner)


@dataclass(kw_only=True)
class Workflow:
    """A workflow, the repository that it is of, and the programs that its steps find first."""

    content: Mapping[str, Any]
    origin: Path
    folder: Path
    programs: Path
    environ: Mapping[str, str]
    results: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    log: str = ""

    def run(self, **contexts: Any) -> None:
        """Run all jobs, each after those that it needs."""
        jobs = dict(self.content["jobs"])
        while jobs:
            name = next(name for name, job in jobs.items() if not set(_needed(job)) & set(jobs))
            self._job(name, jobs.pop(name), contexts)

    def artifact(self, name: str) -> Path:
        """Return the folder of an artifact."""
        return self.folder / "artifacts" / name

    def _job(self, name: str, job: Mapping[str, Any], contexts: Mapping[str, Any]) -> None:
        needs = {
            other: {"result": self.results[other], "outputs": self.outputs.get(other, {})}
            for other in _needed(job)
        }
        given = {**contexts, "needs": needs, "env": self.content.get("env", {})}
        failed = any(self.results[other] != "success" for other in needs)
        if not condition(job.get("if"), given, failed=failed):
            self.results[name] = "skipped"
            return
        ended = [self._instance(name, job, made) for made in _instances(job, given)]
        self.results[name] = "success" if all(ended) else "failure"

    def _instance(self, name: str, job: Mapping[str, Any], given: dict[str, Any]) -> bool:
        """Run the steps of a job, or of one of its matrix; return whether it ended well."""
        where = self.folder / "work" / f"{name}-{len(list(self.folder.glob('work/*')))}"
        where.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "clone", "-q", self.origin, where], check=True)
        assert 0 < int(expanded(job["timeout-minutes"], given)) <= 360
        assert expanded(job["runs-on"], given)
        steps: dict[str, Any] = {}
        failed = False
        for step in job["steps"]:
            context = {**given, "steps": steps, "runner": {"environment": "self-hosted"}}
            if not condition(step.get("if"), context, failed=failed):
                continue
            outputs: dict[str, str] = {}
            ended = (
                self._use(step["uses"], step.get("with", {}), context, where)
                if "uses" in step
                else self._run_line(step, context, where, outputs)
            )
            failed = failed or not ended
            if "id" in step:
                steps[step["id"]] = {"outputs": outputs}
        made = {**given, "steps": steps}
        self.outputs[name] = {
            key: _text(expanded(value, made)) for key, value in job.get("outputs", {}).items()
        }
        return not failed

    def _run_line(
        self,
        step: Mapping[str, Any],
        context: Mapping[str, Any],
        where: Path,
        outputs: dict[str, str],
    ) -> bool:
        line = step["run"]
        if line.startswith("python -m pip install"):
            return True
        assert "${{" not in line, "an expression in a line that a shell reads"
        given = {**self.content.get("env", {}), **step.get("env", {})}
        there = where / ".outputs"
        there.touch()
        environ = {
            **os.environ,
            **self.environ,
            **{key: _text(expanded(value, context)) for key, value in given.items()},
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_OUTPUT": str(there),
            "GITHUB_STEP_SUMMARY": str(where / ".summary"),
        }
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", line],
            cwd=where,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.log += f"$ {line}\n{done.stdout}"
        for text in there.read_text().splitlines():
            name, _, value = text.partition("=")
            outputs[name] = value
        there.unlink()
        return done.returncode == 0

    def _use(
        self, action: str, given: Mapping[str, Any], context: Mapping[str, Any], where: Path
    ) -> bool:
        assert re.fullmatch(r"[a-z-]+/[a-z-]+@[0-9a-f]{40}", action), action
        name = action.partition("@")[0].partition("/")[2]
        options = {key: expanded(value, context) for key, value in given.items()}
        if name == "upload-artifact":
            return self._upload(options, where)
        if name == "upload-pages-artifact":
            return self._upload({**options, "name": "github-pages"}, where)
        if name == "download-artifact":
            self._download(options, where)
        elif name == "checkout":
            assert options["persist-credentials"] is False
        else:
            assert name in ("setup-python", "deploy-pages"), name
        return True

    def _upload(self, options: Mapping[str, str], where: Path) -> bool:
        source, to = where / options["path"], self.artifact(options["name"])
        if not source.exists():
            return options.get("if-no-files-found") != "error"
        hidden = shutil.ignore_patterns(".*")
        if source.is_dir():
            shutil.copytree(source, to, ignore=hidden)
        else:
            to.mkdir(parents=True)
            shutil.copy(source, to)
        return True

    def _download(self, options: Mapping[str, str], where: Path) -> None:
        to = where / options.get("path", ".")
        if "name" in options:
            shutil.copytree(self.artifact(options["name"]), to, dirs_exist_ok=True)
            return
        for source in (self.folder / "artifacts").glob(options["pattern"]):
            shutil.copytree(source, to / source.name)


def _needed(job: Mapping[str, Any]) -> list[str]:
    needs = job.get("needs", [])
    return [needs] if isinstance(needs, str) else list(needs)


def _instances(job: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the contexts of each job of a matrix; one without a matrix."""
    if "strategy" not in job:
        yield {**given, "matrix": {}}
        return
    include = expanded(job["strategy"]["matrix"], given)["include"]
    assert include, "GitHub refuses a matrix without jobs"
    assert len(include) <= 256
    for values in include:
        yield {**given, "matrix": values}
