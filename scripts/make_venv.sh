#!/usr/bin/env bash
# Make a virtual environment with the first Python >= 3.11 that is found: make_venv.sh FOLDER
# PYTHON=/path/to/python chooses another one.
set -euo pipefail

folder=${1:?usage: make_venv.sh FOLDER}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

python=""
for candidate in ${PYTHON:-} python3 python3.11 python3.12 python3.13 python; do
    if command -v "$candidate" >/dev/null 2>&1 && is_new_enough "$candidate"; then
        python=$candidate
        break
    fi
done
if [[ -z $python ]]; then
    echo "No Python >= 3.11 was found. Install one, or name it: make … PYTHON=/path/to/python3.11" >&2
    exit 1
fi

# Debian's own Python comes without ensurepip, and venv then leaves half an environment behind.
if ! "$python" -c 'import ensurepip' >/dev/null 2>&1; then
    "$here/system_packages.sh" venv
fi
echo "Making $folder with $("$python" --version) …"
if ! "$python" -m venv "$folder"; then
    rm -rf "$folder"
    echo "$python could not make a virtual environment; on Debian and Ubuntu install python3-venv." >&2
    exit 1
fi
