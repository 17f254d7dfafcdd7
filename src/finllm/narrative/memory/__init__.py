"""What was known when: the last days at hand for packs, and all of it in one file that outlives the run."""
