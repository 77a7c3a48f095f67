#!/usr/bin/env bash
# Make one corner of the matrix out of an environment that `make test` built: vary_dependencies.sh VENV WISH …
#   lowest   the lowest versions that pyproject.toml allows of what the package itself and its extras ask for
#   newest   the newest ones
#   pre      the newest ones, pre-releases among them
#   pyside6  PySide6 in place of PyQt6
# Then run `make test`: it takes the environment as it is. Wishes are granted in the order given.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage="usage: vary_dependencies.sh VENV lowest|newest|pre|pyside6 …"
venv=${1:?$usage}
shift
python=$venv/bin/python
install() { "$python" -m pip --disable-pip-version-check install --quiet "$@"; }

for wish in "$@"; do
    case $wish in
        lowest)
            # Of the tools for tests and linters the newest stay: they are not what a user installs. torch has a wheel of
            # its own in the Makefile (TORCH), chosen there. Without --upgrade uv leaves every version that is there already.
            install uv
            lowest=$(mktemp)
            sed -n '/^dependencies = \[/,/^\]/p' pyproject.toml | sed -nE 's/^ *"([^"]+)",$/\1/p' | grep -v '^torch' >"$lowest"
            # What the tests use of its extras too: their newest may ask for more than the lowest NumPy or dask.
            sed -nE 's/^(cluster|evaluate|onnx|openvino|parquet) = \["([^"]+)"\]$/\2/p' pyproject.toml >>"$lowest"
            "$venv/bin/uv" pip install --quiet --python "$python" --upgrade --resolution lowest-direct --requirements "$lowest"
            rm -f "$lowest"
            ;;
        newest) install --upgrade --upgrade-strategy eager --editable ".[all,dev]" ;;
        pre) install --upgrade --upgrade-strategy eager --pre --editable ".[all,dev]" ;;
        pyside6)
            # PySide6 6.12.0 gives up True with every emitted signal, and None with every parent(), once more than it took
            # them: Python 3.11 ends the program ("deallocating None"). From 3.12 on both last for ever.
            install "napari[pyside6]" "PySide6!=6.12.0; python_version < '3.12'"
            # With both, qtpy and pytest-qt would take PyQt6 where nothing else is said.
            "$python" -m pip --disable-pip-version-check uninstall --quiet --yes PyQt6 PyQt6-Qt6 PyQt6-sip
            ;;
        *) echo "vary_dependencies.sh: unknown wish '$wish'; $usage" >&2; exit 2 ;;
    esac
done
"$python" -m pip check || echo "Versions that do not fit each other are named above; the tests tell whether it matters." >&2
