"""Small safe operations on onnx_ir models."""
