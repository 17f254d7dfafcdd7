"""From book views and bars to a fixed row of numbers, in constant memory; from rows to outcomes.

Never knows which model reads the row; never looks past the row's own time.
"""
