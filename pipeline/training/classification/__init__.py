"""Classes of whole videos, from the features of their clips."""
