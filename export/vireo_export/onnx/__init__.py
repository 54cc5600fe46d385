"""PyTorch towers to ONNX graphs: export, optimisation, operators, large files."""
