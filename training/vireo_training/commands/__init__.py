"""`vireo train`, `vireo evaluate`, `vireo compare` and `vireo data`."""
