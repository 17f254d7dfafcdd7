"""Does the record hold up? Proper scores, skill against baselines, checked traces. Changes nothing."""
