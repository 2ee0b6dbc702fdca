"""Internal. This process: its identity, its pauses and its forks."""
