"""The model store: manifest, cache, weights."""
