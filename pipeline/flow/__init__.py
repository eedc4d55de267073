"""Dense optical flow: TV-L1 with OpenCV's results at many times its speed, and the forms in which flow is stored."""

from pipeline.flow.params import TVL1Params
from pipeline.flow.quantise import dequantise, quantise
from pipeline.flow.tvl1 import tvl1, tvl1_sequence

__all__ = ["TVL1Params", "dequantise", "quantise", "tvl1", "tvl1_sequence"]
