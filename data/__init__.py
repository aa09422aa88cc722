"""What happened: schemas, the Parquet lake, importers, the synthetic market."""
