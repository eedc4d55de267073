"""Training of heads: stored features become padded batches, a plain torch loop fits them. No ray here."""
