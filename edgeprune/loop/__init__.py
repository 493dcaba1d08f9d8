"""The camera loop: newest frame -> choose a bucket -> labels -> overlay, with the times of each stage on record."""
