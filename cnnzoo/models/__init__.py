"""The models, one lineage per file; the registry imports every module of this package on its first lookup."""
