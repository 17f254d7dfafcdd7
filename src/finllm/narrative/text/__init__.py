"""Canonical text: look-alikes, hidden marks and boiler-plate taken away, the language told."""
