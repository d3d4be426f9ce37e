"""The data set: schema, splits, conversion, the `datasets` builder and the folder for the hub."""
