"""Wires of which it is known what is true, and the weights of credibility fitted on them."""
