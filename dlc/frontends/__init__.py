"""Networks from and for other systems: ONNX."""
