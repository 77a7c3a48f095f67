#!/usr/bin/env bash
# Check our packages with the official validator in an environment of its own.  check_bioimageio.sh [FOLDER] [ID …]
# Its own, because the validator does not work with the newest pydantic yet, which napari takes.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-"${TMPDIR:-/tmp}/cellenhance-bioimageio"}
shift || true
if [[ ! -x $folder/bin/python ]]; then
    "${PYTHON:-python3}" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet -e "$root[bioimageio]"
fi
exec "$folder/bin/python" "$root/scripts/check_bioimageio.py" "$@"
