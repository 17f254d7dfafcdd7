"""The evaluation: from what an edge said over recorded sessions to one page that hides nothing."""
