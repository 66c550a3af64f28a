"""Descriptions and examples for the `--help` of each command.

A test parses every example with the real parser, so no example goes stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CommandHelp:
    """The description of a command, and command lines that people use."""

    description: str
    examples: tuple[str, ...]


def _help(description: str, *examples: str) -> CommandHelp:
    return CommandHelp(description=description, examples=examples)


HELPS: Mapping[str, CommandHelp] = {
    "": _help(
        "Show the compatibility of torch and vLLM: which pairs start as expected, cold and warm,"
        " and why and since when the others do not.",
        "matrix grid",
        "matrix doctor py312-torch211-vllm026",
        "matrix run py312-torch211-vllm026",
    ),
    "run": _help(
        "Make the environments of cells with tox, run the startup tests in them, write a record"
        " for each cell, and judge it. Name the cells, or choose them with the options of `matrix"
        " plan`. A cell whose record holds does not run again.",
        "matrix run py311-torch210 py312-torch211-vllm026",
        "matrix run --stale --torch '>=2.11' --platform cpu --dry-run",
        "matrix run py312-torch211-vllm026 --suite full -- -k moe",
    ),
    "doctor": _help(
        "List what this machine has and lacks for a cell, and what is unknown: Python and its"
        " headers, a compiler, tox, disk, memory, and limits; on cuda also a GPU, a driver for"
        " torch's CUDA, and an nvcc.",
        "matrix doctor py312-torch211-vllm026",
        "matrix doctor py312-torch211-vllm026 --platform cuda --network",
        "matrix doctor --json",
    ),
    "recommend": _help(
        "Name the newest pair that fits a machine (driver, GPU, Python, processor, glibc) and the"
        " CUDA, model, and releases that you want. Print the evidence, how the pair starts warm,"
        " how to install it, and why no newer pair fits.",
        "matrix recommend --driver 570 --gpu h100",
        "matrix recommend --gpu sm_121 --machine aarch64 --python 3.12",
        "matrix recommend --model glm_4.5 --vllm '>=0.19' --evidence measured",
    ),
    "upgrade": _help(
        "Compare two vLLM releases, each with its torch: CUDA, driver, Python, GPU code, the"
        " packages that an upgrade in place leaves behind, warm starts, and known issues.",
        "matrix upgrade --from 0.19.1 --to 0.26.0",
        "matrix upgrade --from 0.20 --to 0.32 --python 3.13 --json",
    ),
    "wheels": _help(
        "Show the requirements of the wheels of torch and vLLM: CUDA, the oldest driver and"
        " glibc, and the GPUs whose code they contain.",
        "matrix wheels --vllm '>=0.26' --gpu h100",
        "matrix wheels --torch 2.11 --machine aarch64",
        "matrix wheels --read torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    ),
    "explain": _help(
        "Explain an error: what it means, which torch exports or brings the missing part, which"
        " vLLM needs it, which records show it with which cause, and what to install. The input is"
        " a text, a symbol, a library, or a log of any size.",
        "matrix explain libcudart.so.13",
        "matrix explain build.log",
        "matrix explain --wheel flash_attn-2.8.3-cp312-cp312-linux_x86_64.whl --json",
    ),
    "bundle": _help(
        "Make a folder with everything that cells of one Python need on a machine without a"
        " network, and a script that runs them there.",
        "matrix bundle py312-torch210-vllm019 --out bundle",
        "matrix bundle py312-torch211-vllm026 --gpu-arch sm_90 --repack --split 58MiB --out bundle",
        "matrix bundle --refresh --out bundle",
    ),
    "resolve": _help(
        "Ask uv's resolver whether the packages of cells fit together, and store its answers."
        " They are the rung *resolves* of the grid.",
        "matrix resolve py312-torch210-vllm019",
        "matrix resolve --all-pins --python 3.12",
        "matrix resolve --off-pin --torch '>=2.14' --stale 30",
    ),
    "refresh": _help(
        "Read new releases of torch and vLLM from the package index, with their pins, Pythons,"
        " and wheels.",
        "matrix refresh --check",
        "matrix refresh",
    ),
    "linkage": _help(
        "Show which vLLM links with which torch, by the symbols that vLLM's extensions import and"
        " torch exports. The command installs nothing and needs no GPU.",
        "matrix linkage --vllm 0.26 --torch 2.12",
        "matrix linkage --vllm '>=0.30' --json",
        "matrix linkage --fill",
    ),
    "upstream": _help(
        "Read the counts that vLLM's own startup tests assert, from the source distributions of"
        " its releases. `matrix check` compares the expectations with them.",
        "matrix upstream",
        "matrix upstream --all --jobs 4",
    ),
    "show": _help(
        "Show one record: its verdict, the counts and seconds of each start, and the facts about"
        " the run.",
        "matrix show results/cpu/py311-torch210-vllm019.json",
        "matrix show results/cpu/py311-torch210-vllm019.json --counters --seconds",
        "matrix show results/cpu/py311-torch210-vllm019.json --json",
    ),
    "calibrate": _help(
        "Print the rules that records would justify, or write them into the file of"
        " expectations. A person reviews and commits them.",
        "matrix calibrate results/cpu/py311-torch210-vllm019.json",
        "matrix calibrate results/cpu/py311-torch210-vllm019.json --all",
        "matrix calibrate results/cpu/py312-torch214-vllm033.json --write",
    ),
    "jit": _help(
        "Show which kernel modules a run built just in time, how long that took, and which of"
        " them are missing in the list of modules that later runs build first.",
        "matrix jit results/cuda/py312-torch211-vllm026.json",
        "matrix jit results/cuda/py312-torch211-vllm026.json --write",
        "matrix jit results/cuda/py312-torch211-vllm026.json --json",
    ),
    "table": _help(
        "Make the compatibility table of all records: a page, Markdown, JSON, CSV, and badges.",
        "matrix table",
        "matrix table results records --out site",
    ),
    "ci": _help(
        "Report the results of the records to a CI service, with failures grouped by signature.",
        "matrix ci --format github",
        "matrix ci records --format junit --out junit.xml",
    ),
    "predict": _help(
        "Compare the counts of the CPU platform with those of CUDA, for each pair that ran on"
        " both.",
        "matrix predict",
        "matrix predict results",
        "matrix predict --json",
    ),
    "grid": _help(
        "Show how far every torch gets with every vLLM, and why it fails: the newest vLLM at the"
        " top, the newest torch at the left. On a terminal the grid has colors and fits the width:"
        " columns that do not fit form blocks below.",
        "matrix grid",
        "matrix grid --platform cuda --torch '>=2.11' --vllm '>=0.20'",
        "matrix grid --platform cpu --json",
    ),
    "plan": _help(
        "Show which cells would run and why, how far each gets without a run, and how many"
        " minutes its last run took; or print the cells for tox or for a CI service.",
        "matrix plan --stale --platform cpu",
        "matrix plan --new torch==2.15.0 --off-pin",
        "matrix plan --stale --format github --max-jobs 20",
    ),
    "watch": _help(
        "Report which failures and drifts of the table are new, still there, or gone since the"
        " state was last written.",
        "matrix watch --state watched.json",
        "matrix watch records --state watched.json --issue issue",
    ),
    "qualify": _help(
        "Compare a release or a candidate with an earlier release, case by case: what broke, what"
        " drifts, and what is unknown. For a candidate, the cells that decide run first.",
        "matrix qualify --torch 2.12 --baseline 2.11",
        "matrix qualify torch216rc1 --dry-run --quick",
        "matrix qualify torchnightly --watch --markdown",
    ),
    "attribute": _help(
        "Find the cause of a failure or drift in a cell: torch, vLLM, the pair, or the"
        " environment. The cells next to it are the evidence.",
        "matrix attribute py311-torch212-vllm020",
        "matrix attribute py311-torch212-vllm020 --case small_startup --changes",
        "matrix attribute --all --platform cuda --json",
    ),
    "bisect": _help(
        "Find the first release, nightly build, or commit where a case's result changes, in a"
        " logarithmic number of runs.",
        "matrix bisect --torch 2.10.0 --vllm 0.17.1..0.19.1 --case 'moe_startup[mega_aot=0]'"
        " --platform cpu",
        "matrix bisect --torch 2.11..2.15 --vllm 0.20.2 --case 'small_startup[dense]'"
        " --platform cpu --run",
        "matrix bisect --channel nightly/cu130 --from 2026-11-01 --to 2026-11-28 --vllm 0.33.0"
        " --case 'small_startup[dense]' --platform cpu --dry-run",
    ),
    "candidate": _help(
        "Manage builds of torch and vLLM that are not published as final: release candidates,"
        " nightlies, commits, local builds. The name of each is a tox factor.",
        "matrix candidate add torch216rc1 --index test/cu130",
        "matrix candidate list",
        "matrix candidate remove torch216rc1",
    ),
    "candidate add": _help(
        "Find the files of a candidate once, and store them by address and hash, so that its"
        " cells run like those of a release.",
        "matrix candidate add torch216rc1 --index test/cu130",
        "matrix candidate add vllmmain --commit https://github.com/vllm-project/vllm@main",
        "matrix candidate add torchmine --wheel dist/torch-2.16.0-cp312-cp312-linux_x86_64.whl",
    ),
    "candidate list": _help(
        "Print the candidates with their versions and sources.",
        "matrix candidate list",
        "matrix candidate list --json",
    ),
    "candidate show": _help(
        "Print all facts about one candidate: its files, hashes, pins, and Pythons.",
        "matrix candidate show torch216rc1",
        "matrix candidate show vllmmain --json",
    ),
    "candidate remove": _help(
        "Remove a candidate from the file and the cache. Its records stay.",
        "matrix candidate remove torch216rc1",
        "matrix candidate remove vllmmain",
    ),
    "sync": _help(
        "Write the environments of tox.ini from the releases in the data.",
        "matrix sync",
        "matrix sync --check",
    ),
    "check": _help(
        "Check that the data files are valid and agree with each other, and that no rule goes"
        " beyond its evidence.",
        "matrix check",
        "matrix check --waivers matrix/data/waivers.toml",
    ),
    "results": _help(
        "List, show, compare, index, pack, export, merge, and prune many records.",
        "matrix results list --cell 'py311-torch210-*'",
        "matrix results diff results/cpu/py311-torch210-vllm018.json"
        " results/cpu/py311-torch210-vllm019.json",
        "matrix results merge job-1 job-2 --into records",
    ),
    "results list": _help(
        "List records with their verdicts, the newest first.",
        "matrix results list",
        "matrix results list --platform cuda --vllm 0.26 --verdict drift",
        "matrix results list records --since 2026-11-01 --json",
    ),
    "results show": _help(
        "Show one record and its verdict, as `matrix show` does. The record can be inside an"
        " archive.",
        "matrix results show results/cpu/py311-torch210-vllm019.json",
        "matrix results show results/cpu/py311-torch210-vllm019.json --seconds",
        "matrix results show results/cpu/py311-torch210-vllm019.json --json",
    ),
    "results index": _help(
        "Make or update the index of a folder of records, which makes commands fast. You can"
        " delete it at any time.",
        "matrix results index",
        "matrix results index records",
    ),
    "results diff": _help(
        "Compare two records: verdicts, cases, counters, flags, packages, and seconds beyond"
        " their noise.",
        "matrix results diff results/cpu/py311-torch210-vllm018.json"
        " results/cpu/py311-torch210-vllm019.json",
        "matrix results diff before.json after.json --history results --json",
    ),
    "results pack": _help(
        "Put the records of each day into one archive.",
        "matrix results pack",
        "matrix results pack records --all --yes",
    ),
    "results export": _help(
        "Write records, starts, and counters as Parquet files, for any other engine.",
        "matrix results export --parquet parquet",
        "matrix results export results --parquet parquet",
    ),
    "results merge": _help(
        "Merge folders of records, such as the artifacts of CI jobs, into one. A second merge"
        " changes nothing.",
        "matrix results merge job-1 job-2 --into records",
        "matrix results merge artifacts --into records",
    ),
    "results prune": _help(
        "Show which records a policy deletes, and delete them with --yes. Records that the table"
        " or an expectation needs stay.",
        "matrix results prune --keep 10",
        "matrix results prune records --older-than 90d --yes",
    ),
}
"""By the command as it is written after `matrix`; "" is `matrix` itself."""
