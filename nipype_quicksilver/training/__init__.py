"""Training of the networks: data, recipes, the loop, the trainers, checkpoints on the way."""
