#!/usr/bin/env bash
# Open, update or close the issue of the matrix, by the texts that `matrix watch --issue issue` wrote.
# Environment: OPEN, how many findings are not closed; GH_TOKEN, GH_REPO.
set -euo pipefail
cd "$(dirname "$0")/../.."
label=compatibility-matrix

gh label create "$label" --force --color B60205 --description "What the nightly matrix found" > /dev/null
number=$(gh issue list --label "$label" --state open --limit 1 --json number --jq '.[0].number // empty')
title=$(< issue/title.txt)
if [ -z "$number" ]; then
    [ "$OPEN" -eq 0 ] || gh issue create --title "$title" --body-file issue/body.md --label "$label"
    exit 0
fi
gh issue edit "$number" --title "$title" --body-file issue/body.md
[ ! -s issue/comment.md ] || gh issue comment "$number" --body-file issue/comment.md
[ "$OPEN" -ne 0 ] || gh issue close "$number" --reason completed
