"""The ``ctdiffusion`` command; one file per subcommand."""
