"""Real scans become training slabs: fingerprint, plan, cached slices on the model's grid, batches."""
