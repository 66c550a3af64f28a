#!/usr/bin/env bash
# Build the guide, and put it next to the table (site/guide). A night whose guide does not build has a table all the same.
set -euo pipefail
cd "$(dirname "$0")/../.."

if tox -e docs; then
    cp -R build/docs site/guide
else
    echo "::error::the guide does not build, and the page is published without it"
fi
