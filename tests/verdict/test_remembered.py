"""What was looked up once is not looked up again, and no two situations are taken for one."""

import dataclasses
from collections.abc import Mapping

from matrix.rules.expectations import Expected, Nearest, Situation
from matrix.verdict.remembered import Remembered


class Counting:
    asked = 0

    def expect(self, situation: Situation, start: str) -> Mapping[str, Expected]:
        self.asked += 1
        return {"total": Expected(value=len(situation.flags), rule=start, evidence=())}

    def nearest(self, situation: Situation, start: str) -> Mapping[str, Nearest]:
        self.asked += 1
        return {
            situation.vllm: Nearest(
                value=len(situation.flags), rule=start, evidence=(), vllm="0.19.1", torch=None
            )
        }


def test_each_situation_is_looked_up_once() -> None:
    counting = Counting()
    remembered = Remembered(counting)
    one = Situation(case="moe", platform="cpu", torch="2.10.0", vllm="0.19.1", flags={"a": 1})
    situations = [
        one,
        dataclasses.replace(one, case="other"),
        dataclasses.replace(one, platform="cuda"),
        dataclasses.replace(one, torch="2.11.0"),
        dataclasses.replace(one, vllm="0.20.2"),
        dataclasses.replace(one, flags={"a": 1, "b": 2}),
        dataclasses.replace(one, flags={"b": 1}),
    ]
    questions = [(situation, start) for situation in situations for start in ("cold", "warm")]
    plain = Counting()
    for situation, start in questions * 2:
        assert remembered.expect(situation, start) == plain.expect(situation, start)
        assert remembered.nearest(situation, start) == plain.nearest(situation, start)
    assert counting.asked == 2 * len(questions)
