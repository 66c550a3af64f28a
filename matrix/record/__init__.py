"""The observations of one run: the record's model, reader, signatures, provenance."""
