"""What an operator runs: model repositories, and the Triton that serves them."""
