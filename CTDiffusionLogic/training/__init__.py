"""Training: options, the loop, checkpoints, and what it leaves in the run folder."""
