"""Model repositories, and the Triton that serves them: the operator's part of Vireo."""
