#!/usr/bin/env bash
# Propose refresh.patch, which another job made, as a pull request: a person looks at it before any cell runs it.
# Environment: BASE, the branch to change; GH_TOKEN. Only the data and tox.ini may change.
set -euo pipefail
cd "$(dirname "$0")/../.."
branch=matrix-releases

gh auth setup-git
git config user.name "github-actions[bot]"
git config user.email "41898282+github-actions[bot]@users.noreply.github.com"
git checkout -q -B "$branch"
git apply --index --include='matrix/data/*' --include=tox.ini refresh.patch
if git diff --cached --quiet; then
    echo "refresh.patch changes nothing here"
    exit 0
fi
git commit -q -m "Refresh the releases of torch and vLLM"
if git fetch -q origin "refs/heads/$branch" 2> /dev/null && git diff --quiet FETCH_HEAD HEAD; then
    echo "$branch has this already"
else
    git push -q --force origin "HEAD:refs/heads/$branch"
fi
open=$(gh pr list --head "$branch" --base "$BASE" --state open --json number --jq length)
if [ "$open" -eq 0 ]; then
    gh pr create --head "$branch" --base "$BASE" --title "Refresh the releases of torch and vLLM" \
        --body "What \`matrix refresh\` found on the package index. The cells of new releases run in the night after it is merged."
fi
