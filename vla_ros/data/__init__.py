"""Demonstrations: typed steps, readers and writers of the common formats, mixtures, augmentation."""
