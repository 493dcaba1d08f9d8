"""Accuracy, latency and energy of compiled graphs; torch-free."""
