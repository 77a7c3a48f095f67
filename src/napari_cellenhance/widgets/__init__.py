"""The docks of the napari window."""
