"""Image files and reports."""
