"""Budgets of a run: latency, rate, power and energy, held by choosing buckets."""
