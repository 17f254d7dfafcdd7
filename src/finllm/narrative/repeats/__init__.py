"""Repeats: copies, near copies, reworded copies, whose words they are, and whether they are news at all."""
