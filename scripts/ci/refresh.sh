#!/usr/bin/env bash
# Read what is new of torch and vLLM from the package index, and leave it as refresh.patch. Output: changed.
set -euo pipefail
cd "$(dirname "$0")/../.."

matrix refresh
matrix sync
git diff --binary -- matrix/data tox.ini > refresh.patch
changed=false
[ ! -s refresh.patch ] || changed=true
echo "changed=$changed" >> "${GITHUB_OUTPUT:-/dev/stdout}"
