"""The cross-modal space: a frozen test of planted causes, its baselines, training and scoring."""
