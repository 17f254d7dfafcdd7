"""The workshop: tapes, labels, splits, training and export. May import finllm, never the reverse."""
