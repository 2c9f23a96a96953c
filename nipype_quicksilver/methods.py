"""Names of the methods, for every layer; nothing is imported here."""

#: Where the momentum comes from: a network's prediction, corrected by a second one (LPC); the
#: prediction alone (LP); the corrected prediction, optimised further; optimisation only (LO).
METHODS = ("correct", "predict", "refine", "optimize")
#: The one that is taken where none is named.
DEFAULT_METHOD = "optimize"
#: Of the optimisation: from nothing, and from a predicted momentum.
SCHEDULES = ("full", "refine")
