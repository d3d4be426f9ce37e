"""Pictures of rows."""
