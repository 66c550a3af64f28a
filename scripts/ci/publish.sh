#!/usr/bin/env bash
# Add what the folder published has to the branch of records. No record of the branch is ever changed or deleted.
# Environment: RECORDS_BRANCH; GH_TOKEN, which may write.
set -euo pipefail
cd "$(dirname "$0")/../.."

gh auth setup-git
new=$PWD/published
origin=$(git remote get-url origin)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
git init -q "$tree"
cd "$tree"
git config user.name "github-actions[bot]"
git config user.email "41898282+github-actions[bot]@users.noreply.github.com"
git remote add origin "$origin"
found=0
git ls-remote --exit-code origin "refs/heads/$RECORDS_BRANCH" > /dev/null || found=$?
case $found in
    0)
        git fetch -q --depth 1 origin "refs/heads/$RECORDS_BRANCH"
        git checkout -q -B "$RECORDS_BRANCH" FETCH_HEAD
        ;;
    2) git checkout -q --orphan "$RECORDS_BRANCH" ;;
    *) exit "$found" ;;
esac
while IFS= read -r -d '' file; do
    if [ -e "records/$file" ]; then
        if ! cmp -s "$new/records/$file" "records/$file"; then
            echo "::error::records/$file: the branch has another one of this name; start the workflow again"
            exit 1
        fi
    else
        mkdir -p "$(dirname "records/$file")"
        cp "$new/records/$file" "records/$file"
    fi
done < <(cd "$new/records" && find . -type f ! -path '*/.*' -print0)
cp "$new/watch.json" watch.json
git add -A
if git diff --cached --quiet; then
    echo "nothing new"
    exit 0
fi
git commit -q -m "Records of $(date -u +%F)"
git push -q origin "HEAD:refs/heads/$RECORDS_BRANCH"
