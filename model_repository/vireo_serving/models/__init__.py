"""Model files that export copies into a Triton model repository."""
