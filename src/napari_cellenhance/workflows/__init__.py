"""One verb per file: request in, steps, result out."""
