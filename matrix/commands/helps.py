"""What `--help` of each command says besides its options: a description and examples.

A test parses every example with the real parser, so none can go stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CommandHelp:
    """What a command does, and command lines that people use."""

    description: str
    examples: tuple[str, ...]


def _help(description: str, *examples: str) -> CommandHelp:
    return CommandHelp(description=description, examples=examples)


HELPS: Mapping[str, CommandHelp] = {
    "": _help(
        "The compatibility matrix of torch and vLLM: which pairs start as they should, cold and"
        " warm, and where one does not, why and since when.",
        "matrix grid",
        "matrix doctor py312-torch211-vllm026",
        "matrix run py312-torch211-vllm026",
    ),
    "run": _help(
        "Make the environments of cells by tox, run the startup tests in them, write a record of"
        " each and judge it. Cells are named, or chosen by the options of `matrix plan`. A cell"
        " whose record holds does not run again.",
        "matrix run py311-torch210 py312-torch211-vllm026",
        "matrix run --stale --torch '>=2.11' --platform cpu --dry-run",
        "matrix run py312-torch211-vllm026 --suite full -- -k moe",
    ),
    "doctor": _help(
        "Say what this machine has, lacks, or does not tell of what a cell takes: its Python and"
        " headers, a compiler, tox, disk, memory and limits; on cuda also a GPU, a driver for the"
        " torch's CUDA, and an nvcc.",
        "matrix doctor py312-torch211-vllm026",
        "matrix doctor py312-torch211-vllm026 --platform cuda --network",
        "matrix doctor --json",
    ),
    "recommend": _help(
        "Name the newest pair that fits a machine: its driver, GPU, Python, processor and glibc,"
        " and the CUDA, model and releases that are wanted. Say on what evidence, how it starts"
        " warm, how to install it, and why no newer pair fits.",
        "matrix recommend --driver 570 --gpu h100",
        "matrix recommend --gpu sm_121 --machine aarch64 --python 3.12",
        "matrix recommend --model glm_4.5 --vllm '>=0.19' --evidence measured",
    ),
    "upgrade": _help(
        "Say what changes from one vLLM to another, each with its torch: CUDA, driver, Python, GPU"
        " code, the packages that an upgrade in place leaves behind, warm starts, known issues.",
        "matrix upgrade --from 0.19.1 --to 0.26.0",
        "matrix upgrade --from 0.20 --to 0.32 --python 3.13 --json",
    ),
    "wheels": _help(
        "Show what the wheels of torch and vLLM are built for: their CUDA, the least driver and"
        " glibc, and the GPUs whose code they have.",
        "matrix wheels --vllm '>=0.26' --gpu h100",
        "matrix wheels --torch 2.11 --machine aarch64",
        "matrix wheels --read torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    ),
    "explain": _help(
        "Say what an error means, which torch exports or brings what is missing, which vLLM needs"
        " it, which records show it and whose change it is, and what to install. It reads a text, a"
        " symbol, a library or a log of any size.",
        "matrix explain libcudart.so.13",
        "matrix explain build.log",
        "matrix explain --wheel flash_attn-2.8.3-cp312-cp312-linux_x86_64.whl --json",
    ),
    "bundle": _help(
        "Make a folder with all that cells of one Python need on a machine without a network, and"
        " the script that runs them there.",
        "matrix bundle py312-torch210-vllm019 --out bundle",
        "matrix bundle py312-torch211-vllm026 --gpu-arch sm_90 --repack --split 58MiB --out bundle",
        "matrix bundle --refresh --out bundle",
    ),
    "resolve": _help(
        "Ask uv's resolver whether the packages of cells go together, and keep its answers. They"
        " are the rung *resolves* of the grid.",
        "matrix resolve py312-torch210-vllm019",
        "matrix resolve --all-pins --python 3.12",
        "matrix resolve --off-pin --torch '>=2.14' --stale 30",
    ),
    "refresh": _help(
        "Read the releases of torch and vLLM that the package index has and the data has not, with"
        " their pins, Pythons and wheels.",
        "matrix refresh --check",
        "matrix refresh",
    ),
    "linkage": _help(
        "Say which vLLM links with which torch, by the symbols that its extensions import and the"
        " torch exports. Nothing is installed, and no GPU is needed.",
        "matrix linkage --vllm 0.26 --torch 2.12",
        "matrix linkage --vllm '>=0.30' --json",
        "matrix linkage --fill",
    ),
    "upstream": _help(
        "Read what vLLM's own startup tests count, from the source distributions of its releases,"
        " into the data, against which the expectations are held.",
        "matrix upstream",
        "matrix upstream --all --jobs 4",
    ),
    "show": _help(
        "Show one record: its verdict, what each start counted and took, and what is known of the"
        " run.",
        "matrix show results/cpu/py311-torch210-vllm019.json",
        "matrix show results/cpu/py311-torch210-vllm019.json --counters --seconds",
    ),
    "calibrate": _help(
        "Print the rules that a record would justify, for a person to look at and to commit.",
        "matrix calibrate results/cpu/py311-torch210-vllm019.json",
        "matrix calibrate results/cpu/py311-torch210-vllm019.json --all",
    ),
    "jit": _help(
        "Show which kernel modules a run built just in time, how long that took, and what is new"
        " in it for the list by which later runs build them first.",
        "matrix jit results/cuda/py312-torch211-vllm026.json",
        "matrix jit results/cuda/py312-torch211-vllm026.json --write",
    ),
    "table": _help(
        "Make the compatibility table of all records: a page, Markdown, JSON, CSV and badges.",
        "matrix table",
        "matrix table results records --out site",
    ),
    "ci": _help(
        "Hand what the records show to a CI service, failures with one signature together.",
        "matrix ci --format github",
        "matrix ci records --format junit --out junit.xml",
    ),
    "predict": _help(
        "Hold what the CPU counts against what CUDA counts, for each pair that ran on both.",
        "matrix predict",
        "matrix predict results",
    ),
    "grid": _help(
        "Show how far every torch gets with every vLLM and, where it fails, why: the newest vLLM"
        " at the top, the newest torch at the left. On a terminal it is in colour and fits the"
        " width: columns that do not fit stand in blocks below.",
        "matrix grid",
        "matrix grid --platform cuda --torch '>=2.11' --vllm '>=0.20'",
        "matrix grid --platform cpu --width 100",
    ),
    "plan": _help(
        "Show which cells would run, why, how far each gets without a run, and how many minutes"
        " its last run took; or name them for tox or for a CI service.",
        "matrix plan --stale --platform cpu",
        "matrix plan --new torch==2.15.0 --off-pin",
        "matrix plan --stale --format github --max-jobs 20",
    ),
    "watch": _help(
        "Say which failures and drifts of the table are new, still there or gone since the last"
        " time that this state was written.",
        "matrix watch --state watched.json",
        "matrix watch records --state watched.json --issue issue",
    ),
    "qualify": _help(
        "Hold a release or a candidate against an earlier release, case by case: what broke, what"
        " drifts, and what nobody knows. The cells that decide about a candidate run first.",
        "matrix qualify --torch 2.12 --baseline 2.11",
        "matrix qualify torch216rc1 --dry-run --quick",
        "matrix qualify torchnightly --watch --markdown",
    ),
    "attribute": _help(
        "Find whose change makes a cell fail or drift, torch's, vLLM's, the pair's or that of the"
        " environment, from the cells next to it.",
        "matrix attribute py311-torch212-vllm020",
        "matrix attribute py311-torch212-vllm020 --case small_startup --changes",
        "matrix attribute --all --platform cuda --json",
    ),
    "bisect": _help(
        "Find the first release, nightly build or commit where a case does otherwise, in a"
        " logarithmic number of runs.",
        "matrix bisect --torch 2.10.0 --vllm 0.17.1..0.19.1 --case 'moe_startup[mega_aot=0]'"
        " --platform cpu",
        "matrix bisect --torch 2.11..2.15 --vllm 0.20.2 --case 'small_startup[dense]'"
        " --platform cpu --run",
        "matrix bisect --channel nightly/cu130 --from 2026-11-01 --to 2026-11-28 --vllm 0.33.0"
        " --case 'small_startup[dense]' --platform cpu --dry-run",
    ),
    "candidate": _help(
        "Builds of torch and vLLM that are not published as final: release candidates, nightlies,"
        " commits, local builds. Each has a name that is a factor of tox.",
        "matrix candidate add torch216rc1 --index test/cu130",
        "matrix candidate list",
        "matrix candidate remove torch216rc1",
    ),
    "candidate add": _help(
        "Find the files of a candidate once, and write them down by address and hash, so that its"
        " cells run like those of any release.",
        "matrix candidate add torch216rc1 --index test/cu130",
        "matrix candidate add vllmmain --commit https://github.com/vllm-project/vllm@main",
        "matrix candidate add torchmine --wheel dist/torch-2.16.0-cp312-cp312-linux_x86_64.whl",
    ),
    "candidate list": _help(
        "Print the candidates with their versions and where they are from.",
        "matrix candidate list",
        "matrix candidate list --json",
    ),
    "candidate show": _help(
        "Print all that is known of one candidate: its files, hashes, pins and Pythons.",
        "matrix candidate show torch216rc1",
        "matrix candidate show vllmmain --json",
    ),
    "candidate remove": _help(
        "Take a candidate out of the file and the cache. Its records stay.",
        "matrix candidate remove torch216rc1",
        "matrix candidate remove vllmmain",
    ),
    "sync": _help(
        "Write the environments of tox.ini from the releases in the data.",
        "matrix sync",
        "matrix sync --check",
    ),
    "check": _help(
        "Check that the data files are good and agree with each other, and that no rule goes"
        " beyond its evidence.",
        "matrix check",
        "matrix check --waivers matrix/data/waivers.toml",
    ),
    "results": _help(
        "Work with many records: list, show, compare, index, pack, export, merge and prune them.",
        "matrix results list --cell 'py311-torch210-*'",
        "matrix results diff results/cpu/py311-torch210-vllm018.json"
        " results/cpu/py311-torch210-vllm019.json",
        "matrix results merge job-1 job-2 --into records",
    ),
    "results list": _help(
        "List records, the newest first, with their verdicts.",
        "matrix results list",
        "matrix results list --platform cuda --vllm 0.26 --verdict drift",
        "matrix results list records --since 2026-11-01 --json",
    ),
    "results show": _help(
        "Show one record and its verdict, as `matrix show` does, also one inside an archive.",
        "matrix results show results/cpu/py311-torch210-vllm019.json",
        "matrix results show results/cpu/py311-torch210-vllm019.json --seconds",
    ),
    "results index": _help(
        "Make or freshen the index by which folders of many records are read fast. It may be"
        " deleted.",
        "matrix results index",
        "matrix results index records",
    ),
    "results diff": _help(
        "Say what differs between two records: verdicts, cases, counters, flags, packages, and"
        " seconds beyond their noise.",
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
        "Write records, starts and counters as Parquet files, for any other engine.",
        "matrix results export --parquet parquet",
        "matrix results export results --parquet parquet",
    ),
    "results merge": _help(
        "Join folders of records, such as the artifacts of CI jobs, into one. To merge twice"
        " changes nothing.",
        "matrix results merge job-1 job-2 --into records",
        "matrix results merge artifacts --into records",
    ),
    "results prune": _help(
        "Show which records a policy lets go and, with --yes, delete them. What the table or an"
        " expectation needs stays.",
        "matrix results prune --keep 10",
        "matrix results prune records --older-than 90d --yes",
    ),
}
"""By the command as it is written after `matrix`; "" is `matrix` itself."""
