"""ONNX graphs of PyTorch towers: export, optimisation, operators, large files."""
