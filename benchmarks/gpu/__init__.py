"""What is measured on an NVIDIA GPU. None of it has run yet: there was no GPU."""
