#!/usr/bin/env bash
# Put what earlier nights published (records, and the state of the watch) into the folder published. The first night
# begins with the records of the repository. Environment: RECORDS_BRANCH; GH_TOKEN, where the repository is private.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ -z "${GH_TOKEN:-}" ] || gh auth setup-git
found=0
git ls-remote --exit-code origin "refs/heads/$RECORDS_BRANCH" > /dev/null || found=$?
mkdir published
case $found in
    0)
        git fetch -q --depth 1 origin "refs/heads/$RECORDS_BRANCH"
        git archive FETCH_HEAD | tar -x -C published
        ;;
    2) # the branch does not exist yet
        cp -R results published/records
        # The published table is made of them, and is not a record.
        (cd published/records && rm -rf agreement.md api badges changes.atom compatibility.* index.html)
        ;;
    *) exit "$found" ;;
esac
