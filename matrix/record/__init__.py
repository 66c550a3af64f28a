"""What one run observed: the record's model, its reader, signatures of failures, provenance."""
