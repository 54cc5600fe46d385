"""Model repositories on disk: publishing a version, and going back to one."""
