"""One lineage a file; the registry imports every module of this package on its first look-up."""
