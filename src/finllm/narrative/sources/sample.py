"""The samples of the sources that ship: messages in the shape of real ones, with words of our own."""

from importlib.resources import files


def sample(name: str) -> bytes:
    """Return a sample's bytes."""
    return (files("finllm.narrative.sources") / "samples" / name).read_bytes()
