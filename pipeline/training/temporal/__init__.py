"""Labelled segments in time, found in the features of untrimmed videos."""
