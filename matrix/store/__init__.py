"""Many records: index, archives, object stores, retention, difference, export."""
