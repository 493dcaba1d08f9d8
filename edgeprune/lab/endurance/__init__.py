"""A run that goes on: one on a looped clip with a viewer, for an hour, and what it has to keep to meanwhile."""
