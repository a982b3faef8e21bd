"""Comparisons: many runs that differ in one thing, their records, statistics, figures and page."""
