"""Known worlds: markets at the grain of decisions, with a newswire of which everything is known.

Where `market.synthetic` makes frames, these worlds make what a gate lives on: days of forecasts on a grid,
documents in five languages, and for each document its true effect, lag, half-life and falsity. The law
(`law`) is fitted to training tapes where they can tell, frozen and hashed before any gate was tuned. The
base forecast (`base`) is the edge's: all but the news. What a second look would say is simulated (`minds`):
no language model's judgement is measured here. What a refinement gains is an expectation under the very
law that made the price (`worth`), so that luck is no part of it.
"""
