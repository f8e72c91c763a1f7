"""`ctx.config`: the entries of the configuration, in both forms."""
