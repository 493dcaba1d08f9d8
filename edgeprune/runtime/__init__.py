"""All that a device runs: cameras, engines, meters, sinks, and the loop between them. Neither torch nor nncf."""
