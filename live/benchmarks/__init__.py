"""Figures beside a named baseline, for `aster bench`."""
