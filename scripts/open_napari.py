"""Open napari with a sample image and the Enhance dock."""

from __future__ import annotations

import os
import sys

PLUGIN = "napari-cellenhance"


def main() -> int:
    """Open the window; returns when it is closed."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        print("napari needs a display, and there is none here; `make demo` works without one.", file=sys.stderr)
        return 1

    import napari

    viewer = napari.Viewer()
    viewer.open_sample(PLUGIN, "nuclei")
    viewer.window.add_plugin_dock_widget(PLUGIN, "Enhance cells")
    napari.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
