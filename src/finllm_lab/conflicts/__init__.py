"""Conflicts between words and market whose driver is known, and the model that names it."""
