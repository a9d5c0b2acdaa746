"""ONNX Runtime, behind one door: no other package imports it."""
