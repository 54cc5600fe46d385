"""What runs the towers inside Triton."""
