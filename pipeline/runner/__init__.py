"""Runs a plan on Ray. Only this room and the jobs know Ray: stages never see it.

connect    a cluster's address, or a local Ray for the time of a block
drain      the graph as a Ray dataset: one row = one bundle of units, chained steps, each with its share of the machine
feed       the units, said as they are needed
bundle     how many go together, and what happens to them on the other side
rounds     which of them are tried again
facts      what the cluster has
requests   what a product asks for on it
reach      whether every node sees what the run is made of
worker     one unit of one product, errors in the row
cards      the cards, made on the machines that do the work
news       what workers say while they work
troubles   what of it a person hears at once
observe    what becomes of it: the run's record
metrics    and numbers for Prometheus
"""

import pipeline.runner.no_pickles  # noqa: F401  (in every process of a run, workers too: they import this package)
from pipeline.runner.connect import cluster
from pipeline.runner.drain import UnitError, run_plan
from pipeline.runner.news import hearing
from pipeline.runner.observe import watching

__all__ = ["UnitError", "cluster", "hearing", "run_plan", "watching"]
