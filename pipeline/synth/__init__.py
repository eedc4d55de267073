"""Labelled motion datasets of real, encoded videos in which only motion tells the class."""

from pipeline.synth.dataset import SynthReport, make_dataset
from pipeline.synth.motion import CATALOGUE
from pipeline.synth.spec import SynthSpec

__all__ = ["CATALOGUE", "SynthReport", "SynthSpec", "make_dataset"]
