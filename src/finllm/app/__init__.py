"""The front door, and the only place that knows everybody. Contains no decision, formula or prompt."""
