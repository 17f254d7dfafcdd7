"""Is this worth a slow second look?

Never calls a reasoner, sleeps, or sees the outcome of what it is deciding.
"""
