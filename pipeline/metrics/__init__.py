"""Metrics, one file per task; numpy only."""
