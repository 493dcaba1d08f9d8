"""`edgeprune compare`: token-reduction methods and their controls from one dense checkpoint, at equal training, measured in
one run."""
