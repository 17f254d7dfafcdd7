"""Fin-LLM-Inference: forecasts at two speeds."""
