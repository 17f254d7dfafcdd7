"""Reading: what a text says of which instrument, by encoder, heads and rules."""
