"""Heavier models beside the pooled linear one, what they teach it, and how small a model may become.

Everything here is chosen and scored by leaving one training session out; the validation part is not read.
Boosted trees and small networks become ONNX graphs that the edge can serve; a temporal convolution over
the last rows is a teacher only. torch and LightGBM are loaded where they are used.
"""
