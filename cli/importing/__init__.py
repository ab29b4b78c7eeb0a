"""`courier import`: tables from files, as jobs."""
