"""`python -m edgeprune`: the command line, in the form that `torchrun -m` and `accelerate launch -m` start."""

from edgeprune.cli import main

if __name__ == "__main__":
    main()
