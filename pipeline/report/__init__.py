"""One HTML page about a dataset, for people, from what stands on its storage."""

from pipeline.report.counts import counts_section, failed_section, is_complete, pending_sentences
from pipeline.report.figures import Figures
from pipeline.report.heads import heads_section
from pipeline.report.page import Cells, Page, Part, Picture, Section, render
from pipeline.report.products import clips_section, features_section, flow_section

__all__ = [
    "Cells",
    "Figures",
    "Page",
    "Part",
    "Picture",
    "Section",
    "clips_section",
    "counts_section",
    "failed_section",
    "features_section",
    "flow_section",
    "heads_section",
    "is_complete",
    "pending_sentences",
    "render",
]
