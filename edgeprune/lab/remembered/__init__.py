"""What a bundle's memory between frames is worth on clips."""
