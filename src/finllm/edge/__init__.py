"""From a feature row to a fast calibrated forecast.

Models, baselines, calibration, regime and the outlook's tilt. Never trains, reads text or talks to
the network.
"""
