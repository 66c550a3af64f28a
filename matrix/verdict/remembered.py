"""Expectations that look a situation up once: runs of many nights and Pythons are alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from matrix.rules.expectations import Expected, Nearest, Situation
from matrix.verdict.judge import Expects


class Remembered:
    """Expectations that remember their answers; `benchmarks/caches.py` shows what that saves."""

    def __init__(self, expectations: Expects) -> None:
        """Remember what these answer."""
        self._expectations = expectations
        self._answers: dict[Hashable, Any] = {}

    def expect(self, situation: Situation, start: str) -> Mapping[str, Expected]:
        """Return what `Expectations.expect` does; the same mapping for the same situation."""
        return self._answer("expect", self._expectations.expect, situation, start)

    def nearest(self, situation: Situation, start: str) -> Mapping[str, Nearest]:
        """Return what `Expectations.nearest` does; the same mapping for the same situation."""
        return self._answer("nearest", self._expectations.nearest, situation, start)

    def _answer(
        self,
        question: str,
        ask: Callable[[Situation, str], Mapping[str, Any]],
        situation: Situation,
        start: str,
    ) -> Mapping[str, Any]:
        flags = frozenset(situation.flags.items())
        pair = situation.torch, situation.vllm
        key = question, situation.case, situation.platform, pair, flags, start
        if key not in self._answers:
            self._answers[key] = ask(situation, start)
        return self._answers[key]  # type: ignore[no-any-return]
