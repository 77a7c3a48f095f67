"""Losses of the published methods, one file each."""
