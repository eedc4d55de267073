"""Data contracts: arrow schemas, row types and config models. Imports stdlib, pyarrow and pydantic only."""
