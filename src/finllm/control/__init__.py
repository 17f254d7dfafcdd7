"""How hard to work: the degradation ladder.

Reads measurements, gives the rung; touches no forecast.
"""
