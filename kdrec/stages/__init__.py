"""The steps of the pipeline; only these and the command line know the configuration."""
