#!/usr/bin/env bash
# Run a command with a display: the one that is there, else a virtual one.  with_display.sh COMMAND [ARG …]
set -euo pipefail

if [[ $(uname -s) != Linux || -n ${DISPLAY:-} || -n ${WAYLAND_DISPLAY:-} ]]; then
    exec "$@"
fi
if ! command -v xvfb-run >/dev/null 2>&1 || ! command -v xauth >/dev/null 2>&1; then
    echo "There is no display and no virtual one; please run: sudo apt-get install xvfb xauth" >&2
    exit 3
fi
# 24 bit and GLX: napari's canvas needs OpenGL, and Qt's "offscreen" platform has none.
exec xvfb-run --auto-servernum --server-args="-screen 0 1600x1000x24 +extension GLX +render -noreset" "$@"
