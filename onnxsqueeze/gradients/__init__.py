"""Gradients of a model's outputs by its weights: the graph run by the operator table's kernels."""
