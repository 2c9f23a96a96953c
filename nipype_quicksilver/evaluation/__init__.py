"""Comparison of methods on many pairs: data sets, peers, measures, tables and figures."""
