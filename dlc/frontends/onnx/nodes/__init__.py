"""One function for each op of ONNX that is imported, in tables by family."""
