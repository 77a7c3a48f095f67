#!/usr/bin/env bash
# Install the system packages of the groups named, or name them in one sentence.
#   qt       what Qt's xcb platform and OpenGL need to open a window
#   display  a virtual X server for tests and screenshots
#   venv     python3-venv
# Does nothing where they are there already, and on macOS and Windows. Never fails: a system that has
# these libraries under other names must not be stopped here.
set -euo pipefail

qt="libgl1 libegl1 libdbus-1-3 libfontconfig1 libglib2.0-0 libxkbcommon-x11-0
    libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0"
display="xvfb xauth"
venv="python3-venv"

[[ $(uname -s) == Linux ]] || exit 0

wanted=()
for group in "$@"; do
    case $group in
        qt) wanted+=($qt) ;;
        display) wanted+=($display) ;;
        venv) wanted+=($venv) ;;
        *) echo "system_packages.sh: unknown group '$group'; expected qt, display or venv" >&2; exit 2 ;;
    esac
done

is_installed() {
    # Newer Ubuntu carries some of these under the same name with t64 behind it; dpkg-query fails for the
    # one that does not exist and still tells the other.
    local states
    states=$(dpkg-query -W -f='${Status}\n' "$1" "$1t64" 2>/dev/null || true)
    [[ $states == *"install ok installed"* ]]
}

if ! command -v apt-get >/dev/null 2>&1; then
    # No Debian: what matters is whether the programs are there, not what the packages are called.
    if [[ " $* " == *" display "* ]] && ! command -v xvfb-run >/dev/null 2>&1 && [[ -z ${DISPLAY:-} ]]; then
        echo "There is no apt-get here; please install by your system's own means what Debian calls: ${wanted[*]}" >&2
    fi
    exit 0
fi

missing=()
for package in "${wanted[@]}"; do
    is_installed "$package" || missing+=("$package")
done
((${#missing[@]})) || exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        as_root=(sudo -n)
    else
        echo "These system packages are missing; please run: sudo apt-get install ${missing[*]}" >&2
        exit 0
    fi
fi

echo "Installing the system packages ${missing[*]} …"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get update &&
       "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
           "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "apt-get could not install them; please install by hand: ${missing[*]}" >&2
fi
