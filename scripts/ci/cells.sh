#!/usr/bin/env bash
# Run the cells of one job, one after another. A verdict is an answer, whatever it is; a cell without a record is a fault.
# Environment: CELLS, their names; PLATFORM.
set -euo pipefail
cd "$(dirname "$0")/../.."

read -ra names <<< "$CELLS"
fault=0
for cell in "${names[@]}"; do
    status=0
    tox -e "$cell" -- --platform "$PLATFORM" || status=$?
    case $status in
        0 | 1 | 5) ;; # compatible; drift or incompatible; untested
        *)
            echo "::warning::$cell on $PLATFORM: ended with exit status $status; its record says why"
            fault=$status
            ;;
    esac
    if ! compgen -G "records/$PLATFORM/$cell.*.json" > /dev/null; then
        echo "::error::$cell on $PLATFORM: left no record"
        fault=1
    fi
    rm -rf ".tox/$cell" # a cell is about 10 GB
done
exit "$fault"
