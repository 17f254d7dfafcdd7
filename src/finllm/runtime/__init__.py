"""Machinery that has never heard of markets: clocks, journals, kernels, processes, tallies."""
