"""Robot side of the single-executor guard: standard library only."""
