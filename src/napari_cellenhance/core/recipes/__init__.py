"""One recipe per published method, all behind ``protocol``."""
