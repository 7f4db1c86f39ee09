"""Export of a trained detector to an ONNX model that holds the whole way from image to boxes."""
