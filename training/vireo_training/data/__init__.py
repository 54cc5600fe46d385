"""Captioned images as a run draws from them: divided, decoded, segmented, augmented."""
