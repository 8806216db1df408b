"""Recognition of data sets from other sources."""
