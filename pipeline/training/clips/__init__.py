"""Training a backbone itself, on stored clips or flow."""
