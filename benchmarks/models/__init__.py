"""Models of the sizes that people run, with random weights, and the captions they are asked."""
