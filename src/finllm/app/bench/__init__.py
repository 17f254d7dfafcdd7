"""Benchmarks on the real path. Each states what was measured, on what, and how busy the machine was."""
