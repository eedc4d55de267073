"""Training of the feature network itself, on stored clips or flow."""
