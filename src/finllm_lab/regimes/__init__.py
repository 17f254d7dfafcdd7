"""Regimes in the lab: a law fitted to recordings, streams drawn from it, and what is found in them.

`law` fits and holds it, `stream` draws, `oracle` filters with the truth known, `rules` learns what the
edge is told, `score` compares.
"""
