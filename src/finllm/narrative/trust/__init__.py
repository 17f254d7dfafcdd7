"""Trust: how far a claim is believed and why, and what later becomes of that."""
