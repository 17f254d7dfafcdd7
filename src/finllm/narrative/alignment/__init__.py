"""Alignment: texts and moves of the market in one space, and which explains which."""
