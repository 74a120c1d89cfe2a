"""Archives read in place: zip, tar and Parquet, on the disk or behind https, by ``vift://``."""
