"""Networks that predict initial momenta: architectures, prediction, checkpoints; torch only."""
