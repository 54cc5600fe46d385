"""The training loop: batches to gradients, schedules, checkpoints, validation."""
