"""An attribution to torch, and what it is made of, for the tests of how it is shown."""

from collections.abc import Sequence
from dataclasses import replace

from matrix.attribution import reasons
from matrix.attribution.model import Attribution, Cause, FlagDifference, MissingRun
from matrix.attribution.symptoms import Symptom, SymptomKind
from matrix.catalog.cells import Cell
from matrix.record.model import Platform, Rung, StartKind
from matrix.report.attribution.sentences import sentence
from matrix.verdict.reasons import Recorded

SAVED = "num_compiled_artifacts_saved"
FAILURE = Symptom(
    kind=SymptomKind.FAILS,
    rung=Rung.STARTS_WARM,
    signature="KeyError: None",
    reason=Recorded(text="KeyError: None"),
)
COUNT = Symptom(kind=SymptomKind.DRIFTS, key=(StartKind.WARM, SAVED), observed=3, wanted=0)
SINCE = reasons.Boundary(low="2.11.0", high="2.12.0", precision=reasons.Precision.MINOR)
TORCH = reasons.AxisChange(
    along=reasons.Along.TORCH,
    clean=("2.11.0",),
    shows=("2.12.0", "2.13.0"),
    counted=0,
    since=SINCE,
    until=None,
)
FLAG = FlagDifference(flag="VLLM_X", here=True, there=False)
RERUN = MissingRun(
    name="py311-torch212-vllm020",
    platform=Platform.CPU,
    question=reasons.Question(code=reasons.QuestionCode.FLAG),
    flags=(("VLLM_X", "0"),),
)
ONE = Attribution(
    cell=Cell("3.11", "2.12.0", "0.20.0"),
    platform=Platform.CPU,
    case="small_startup[dense]",
    symptoms=(COUNT,),
    answer=Cause.TORCH,
    reason=reasons.AxisChanges(change=TORCH),
    after="2.11.0",
    since="2.12.0",
    flags=(FLAG,),
    rests_on=("py311-torch211-vllm020", "py311-torch212-vllm020"),
    missing=(RERUN,),
)
VLLM = reasons.AxisChange(
    along=reasons.Along.VLLM,
    clean=("0.21.0",),
    shows=("0.20.0",),
    counted=2,
    since=None,
    until=reasons.Boundary(low="0.20.0", high="0.21.0", precision=reasons.Precision.RELEASE),
)
MACHINE = reasons.Confounder(
    kind=reasons.ConfounderKind.MACHINE,
    changes=(reasons.EnvironmentChange(name="the system", here="Debian", there="Suse"),),
)
TESTS = reasons.Confounder(kind=reasons.ConfounderKind.TESTS)
PACKAGES = reasons.Confounder(
    kind=reasons.ConfounderKind.PACKAGES,
    changes=tuple(reasons.EnvironmentChange(name=name, here="1", there="2") for name in "abc"),
)
FAILS_ALONG = (
    "vLLM 0.20.0 starts warm under torch 2.11.0 and fails to start warm under 2.12.0 and 2.13.0"
)


def words(
    reason: reasons.AttributionReason,
    answer: Cause = Cause.UNKNOWN,
    symptom: Symptom = FAILURE,
    flags: Sequence[FlagDifference] = (),
) -> str:
    """Return the sentence of a reason."""
    return sentence(
        replace(ONE, reason=reason, answer=answer, symptoms=(symptom,), flags=tuple(flags))
    )
