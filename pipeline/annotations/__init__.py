"""Annotations and predictions: one file per format, each to the value types of `schemas.annotation` and back."""
