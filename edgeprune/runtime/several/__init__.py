"""Several cameras on one engine: one set of graphs and one budget for all, a record for each."""
