#!/usr/bin/env bash
# Check our packages with the official validator in an environment of its own.  check_bioimageio.sh [FOLDER] [ID …]
# Its own, because the validator does not work with the newest pydantic yet, which napari takes. TORCH and TORCH_ARGS say
# which torch, as for make; the default is the version of the tests, of which a build for the CPU does.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-"${TMPDIR:-/tmp}/cellenhance-bioimageio"}
shift || true
if [[ ! -e $folder/.ready ]]; then  # begun anew where an installation was cut off
    "${PYTHON:-python3}" -m venv --clear "$folder"
    # shellcheck disable=SC2086 # several words
    "$folder/bin/python" -m pip install --quiet ${TORCH_ARGS:-} "${TORCH:-torch==2.13.0}"
    "$folder/bin/python" -m pip install --quiet -e "$root[bioimageio]"
    touch "$folder/.ready"
fi
exec "$folder/bin/python" "$root/scripts/check_bioimageio.py" "$@"
