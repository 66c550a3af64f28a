"""The input of the renderers of the compatibility table: the table and further facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from matrix.advice.install import Install
from matrix.attribution.model import Attribution
from matrix.catalog.cells import Cell
from matrix.rules.expectations import Expectations, Rule
from matrix.rules.notes import Note
from matrix.rules.platform_differences import Explanations
from matrix.verdict.agreement import NOTHING, Agreement, agree
from matrix.verdict.answer import VllmAnswer
from matrix.verdict.grid import Grid
from matrix.verdict.plan_reasons import StaleReason
from matrix.verdict.predictions import NO_PREDICTIONS, Predictions
from matrix.verdict.table import Table


@dataclass(frozen=True, kw_only=True)
class Report:
    """A table with everything that its Markdown, JSON, CSV and page show.

    `agreement` compares the entries of one platform with those of the other; `upstream` has the
    rules that expect what was measured where upstream publishes another number; `grid` says how
    far each pair of releases gets, with the entries as its records (None leaves it out);
    `predictions` are what the CPU predicts of pairs without an answer on CUDA;
    `attributions` say who changed what fails or drifts; `notes` are what people found out about
    pairs; `answers` say of each vLLM, newest first, what to know first; `stale` says by cell and
    platform why a record does not stand for its cell as it would run now; `asked` has the first
    and the last day on which a resolver was asked; `installs` has by torch and vLLM what to
    install for each pair of the grid, and so for that of each answer.
    """

    table: Table
    agreement: Agreement = NOTHING
    upstream: tuple[Rule, ...] = ()
    grid: Grid | None = None
    predictions: Predictions = NO_PREDICTIONS
    attributions: tuple[Attribution, ...] = ()
    notes: tuple[Note, ...] = ()
    answers: tuple[VllmAnswer, ...] = ()
    stale: Mapping[tuple[str, str], StaleReason] = field(default_factory=dict)
    asked: tuple[str, str] | None = None
    installs: Mapping[tuple[str, str], Install] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError for an answer without what installs its pair."""
        for answer in self.answers:
            cell = answer.progress.cell
            if (cell.torch, cell.vllm) not in self.installs:
                raise ValueError(
                    f"answers: nothing in `installs` is for torch {cell.torch} with vLLM"
                    f" {cell.vllm}; give `installs_of(grid, ...)` with them"
                )

    def install(self, cell: Cell) -> Install:
        """Return what to install for the pair of a cell, on its Python."""
        return replace(self.installs[cell.torch, cell.vllm], python=cell.python)


def report_of(
    table: Table, expectations: Expectations, explanations: Explanations | None = None
) -> Report:
    """Return the report on a table that needs nothing but the rules: agreement and upstream."""
    return Report(
        table=table,
        agreement=agree(
            (entry.record for entry in table.entries),
            explanations or Explanations(),
            table.first_on_cuda,
        ),
        upstream=tuple(rule for rule in expectations.rules if rule.upstream),
    )
