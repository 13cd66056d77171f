"""One offline page of all that was measured of a model."""
