"""Several language models at once: who is asked, whose word counts how much, and what they say together."""
