"""Measurements: ratios within one run on one machine, never a test that fails by time."""
