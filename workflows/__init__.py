"""Deterministic code only: workflows see activities by typed name and the pure domain, nothing else."""
