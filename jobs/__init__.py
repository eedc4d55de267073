"""Thin entry points: parse, call, print. `reelmill VERB` is also `python -m jobs.VERB`."""
