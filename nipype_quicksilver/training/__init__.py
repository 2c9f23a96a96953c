"""Training of networks: data, recipes, trainers, the training loop, and the folder it writes."""
