"""Translates between HTTP and the features, and does nothing else."""
