"""Records of runs and measurements -> tables, CSV, JSON, plots."""
