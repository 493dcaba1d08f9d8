"""What buckets are worth in PyTorch on a GPU: `python -m edgeprune.lab.in_torch`."""
