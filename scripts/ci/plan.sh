#!/usr/bin/env bash
# Plan the cells of this night as a job matrix. Outputs: any, jobs, matrix.
# Environment: PLATFORM: cpu, cuda, all, or auto: cuda too where CUDA_RUNNER names a runner. FORCE: true for what is
# not stale, too. PLAN_OPTIONS: more options of `matrix plan`.
set -euo pipefail
cd "$(dirname "$0")/../.."

on=$PLATFORM
if [ "$on" = auto ]; then
    on=cpu
    [ -z "${CUDA_RUNNER:-}" ] || on=all
fi
if [ "$on" != cpu ] && [ -z "${CUDA_RUNNER:-}" ]; then
    echo "::error::No runner has a GPU: name its label in the repository's variable MATRIX_CUDA_RUNNER, or choose cpu"
    exit 2
fi
read -ra options <<< "${PLAN_OPTIONS:-}"
[ "$on" = all ] || options+=(--platform "$on")
[ "${FORCE:-false}" = true ] || options+=(--stale)
# A bad record of earlier nights makes the status 2. The plan goes on without it, and the job `refused` is red.
status=0
planned=$(matrix plan published/records --format github "${options[@]}") || status=$?
[ -n "$planned" ] || exit "$((status ? status : 1))"
printf '%s\n' "$planned"
