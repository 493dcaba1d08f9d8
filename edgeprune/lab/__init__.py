"""Studies on the product: they may import everything, and only the command line imports them."""
