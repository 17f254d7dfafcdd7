"""From raw text to trusted, time-stamped evidence.

Never returns anything received after the as-of time; never drops a document silently.
"""
