"""The ground floor: arrays and networks. No files, no network, no napari, no Qt."""
