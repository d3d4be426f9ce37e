"""Registration of whole trials."""
