"""The LDDMM engine: kernel, shooting, maps, similarity, optimisation; torch only."""
