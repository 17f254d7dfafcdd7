"""Does the record hold up? Scores, skill against baselines, checked traces. Changes nothing."""
