"""The worth of a second look: what the law of the known worlds is fitted to, and how hard they are."""
