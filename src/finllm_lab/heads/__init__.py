"""The heads that read text: their rows, their folds, their fitting, and the pack that serves them."""
