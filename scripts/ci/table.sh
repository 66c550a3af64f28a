#!/usr/bin/env bash
# Join the records of this night with those before (in published), and make the table (site) and the issue (issue).
# Outputs: status, 2 where a record was refused; those of `matrix watch`.
set -euo pipefail
cd "$(dirname "$0")/../.."

status=0
# In the first night this begins the watch: what fails already does not count as a regression.
GITHUB_OUTPUT='' matrix watch published/records --state published/watch.json || status=$?
if [ -n "$(ls -A artifacts 2> /dev/null)" ]; then
    matrix results merge artifacts --into published/records || status=$?
fi
matrix watch published/records --state published/watch.json --issue issue || status=$?
matrix table published/records --out site || status=$?
matrix ci published/records --format github || status=$?
for made in site/index.html issue/body.md; do # without them nothing is published
    [ -e "$made" ] || exit 1
done
echo "status=$status" >> "${GITHUB_OUTPUT:-/dev/stdout}"
