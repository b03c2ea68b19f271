"""The only place that imports onnxruntime or torch."""
