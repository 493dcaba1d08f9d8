"""Faults that are injected into running camera loops, and what becomes of each: `python -m edgeprune.lab.faults`."""
