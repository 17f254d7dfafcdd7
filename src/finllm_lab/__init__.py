"""The workshop: tapes, labels, splits, training, export. May import finllm, never the reverse."""
